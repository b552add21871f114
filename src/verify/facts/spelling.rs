//! The normal form of an address, and the likely domain behind a typing error.

use std::borrow::Cow;

use crate::proto::Mailbox;

/// Providers with names that are often mistyped: the name, and its domain endings.
const PROVIDERS: &[(&str, &[&str])] = &[
    ("gmail", &["com"]),
    ("googlemail", &["com"]),
    ("yahoo", &["com", "co.uk", "fr", "de", "it", "es", "co.in", "in", "com.br", "co.jp", "ca", "com.au"]),
    ("hotmail", &["com", "co.uk", "fr", "de", "it", "es", "nl", "be", "com.br"]),
    ("outlook", &["com", "fr", "de", "it", "es", "jp", "com.br"]),
    ("icloud", &["com"]),
    ("protonmail", &["com", "ch"]),
    ("comcast", &["net"]),
    ("verizon", &["net"]),
    ("bellsouth", &["net"]),
    ("sbcglobal", &["net"]),
    ("fastmail", &["com", "fm"]),
    ("rocketmail", &["com"]),
    ("yandex", &["ru", "com"]),
    ("rambler", &["ru"]),
    ("t-online", &["de"]),
    ("freenet", &["de"]),
    ("libero", &["it"]),
    ("wanadoo", &["fr"]),
    ("laposte", &["net"]),
];

/// Names that are close to one of the above but belong to other domains.
const OTHERS: &[&str] = &["mail", "email", "ymail", "fmail", "zmail", "yahoos", "freeet"];

/// Typing errors for `com` and `net`.
const COM: &[&str] = &[
    "con", "cmo", "ocm", "comm", "coom", "ccom", "cm", "om", "co", "vom", "xom", "cpm", "cim", "c0m", "coma",
    "cok", "comn", "com.com",
];
const NET: &[&str] = &["ner", "nte", "ent", "nett", "neet", "nt", "et", "bet", "met"];

/// Returns the likely domain if `domain` looks like a typing error for that of a large provider.
///
/// The domain must be in lower-case A-labels, as [`Mailbox::domain`] returns it.
///
/// ```
/// use smtp_pool::verify::did_you_mean;
/// assert_eq!(did_you_mean("gmial.con").as_deref(), Some("gmail.com"));
/// assert_eq!(did_you_mean("gmail.com"), None);
/// assert_eq!(did_you_mean("mail.com"), None);
/// ```
#[must_use]
pub fn did_you_mean(domain: &str) -> Option<String> {
    let (name, end) = domain.split_once('.')?;
    // No provider's name is near one so short or so long.
    if !(4..=12).contains(&name.len()) || !domain.is_ascii() || OTHERS.contains(&name) {
        return None;
    }
    let corrected = match end {
        _ if COM.contains(&end) => "com",
        _ if NET.contains(&end) => "net",
        _ => end,
    };
    let letters = letters(name);
    let near = |((meant, ends), known): (&(&'static str, &[&'static str]), &u32)| {
        let end = ends.iter().find(|of| **of == end).or_else(|| ends.iter().find(|of| **of == corrected))?;
        let most = max_distance(meant);
        // Both tests are cheap, and exclude nearly all names before the costly distance. An edit changes at most two
        // bits: a substitution removes one letter and adds another.
        if name.len().abs_diff(meant.len()) > most || (letters ^ known).count_ones() as usize > 2 * most {
            return None;
        }
        let distance = strsim::osa_distance(name, meant);
        (distance <= most).then_some((distance, *meant, *end))
    };
    let found = PROVIDERS.iter().zip(&LETTERS).filter_map(near).min_by_key(|(distance, ..)| *distance);
    // Distance 0 with the same end is the domain of the provider itself.
    let (distance, meant, meant_end) = found?;
    (distance > 0 || end != meant_end).then(|| format!("{meant}.{meant_end}"))
}

/// Returns the most typing errors in the name of a provider.
const fn max_distance(meant: &str) -> usize {
    if meant.len() < 7 { 1 } else { 2 }
}

/// The [`letters`] of each of the [`PROVIDERS`].
static LETTERS: [u32; PROVIDERS.len()] = {
    let mut all = [0; PROVIDERS.len()];
    let mut n = 0;
    while n < all.len() {
        all[n] = letters(PROVIDERS[n].0);
        n += 1;
    }
    all
};

/// Returns the set of the letters of a name in lower case, one bit each. All other octets share a bit.
const fn letters(name: &str) -> u32 {
    let (octets, mut set, mut n) = (name.as_bytes(), 0, 0);
    while n < octets.len() {
        set |= match octets[n] {
            letter @ b'a'..=b'z' => 1 << (letter - b'a'),
            _ => 1 << 26,
        };
        n += 1;
    }
    set
}

/// Returns the form that all spellings of one mailbox share: lower case, without the parts that the provider ignores.
///
/// It removes a `+tag` at providers that ignore it, and dots at Gmail. It turns `googlemail.com` into `gmail.com`. Use
/// it to compare addresses, not to send mail: a local part may be case-sensitive (RFC 5321 2.4).
///
/// ```
/// use smtp_pool::{proto::Mailbox, verify::normal_form};
/// let mailbox = Mailbox::parse("Jane.Doe+News@GoogleMail.com")?;
/// assert_eq!(normal_form(&mailbox), "janedoe@gmail.com");
/// # Ok::<(), smtp_pool::proto::AddressError>(())
/// ```
#[must_use]
pub fn normal_form<T: AsRef<str>>(mailbox: &Mailbox<T>) -> Cow<'_, str> {
    const TAGS: &[&str] = &[
        "gmail.com",
        "outlook.com",
        "hotmail.com",
        "live.com",
        "msn.com",
        "icloud.com",
        "me.com",
        "mac.com",
        "fastmail.com",
        "fastmail.fm",
        "protonmail.com",
        "proton.me",
        "pm.me",
        "yandex.ru",
        "yandex.com",
        "zoho.com",
        "mailbox.org",
        "posteo.de",
    ];
    let domain = match mailbox.domain() {
        "googlemail.com" => "gmail.com",
        domain => domain,
    };
    let mut local: Cow<'_, str> = mailbox.local_part().into();
    if !local.starts_with('"') {
        if local.bytes().any(|octet| octet.is_ascii_uppercase() || !octet.is_ascii()) {
            local = local.to_lowercase().into();
        }
        // A local part that is only a tag stays as it is.
        if let Some(at) = local.find('+').filter(|at| *at > 0)
            && TAGS.contains(&domain)
        {
            local = local[..at].to_owned().into();
        }
        if domain == "gmail.com" && local.contains('.') {
            local = local.replace('.', "").into();
        }
    }
    // Most addresses of a list are in their normal form already.
    if matches!(local, Cow::Borrowed(_)) && domain.len() == mailbox.domain().len() {
        return mailbox.as_str().into();
    }
    let mut form = String::with_capacity(local.len() + 1 + domain.len());
    form.extend([&local, "@", domain]);
    form.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Finds the likely domain by the distance to each provider, without any test before.
    fn slow(domain: &str) -> Option<String> {
        let (name, end) = domain.split_once('.')?;
        if !(4..=12).contains(&name.len()) || !domain.is_ascii() || OTHERS.contains(&name) {
            return None;
        }
        let corrected = match end {
            _ if COM.contains(&end) => "com",
            _ if NET.contains(&end) => "net",
            _ => end,
        };
        let near = |(meant, ends): &(&str, &[&str])| {
            let of = |end: &str| ends.iter().find(|of| **of == end);
            let end = of(end).or_else(|| of(corrected))?;
            let distance = strsim::osa_distance(name, meant);
            (distance <= max_distance(meant)).then(|| (distance, format!("{meant}.{end}")))
        };
        let found = PROVIDERS.iter().filter_map(near).min_by_key(|(distance, _)| *distance);
        found.map(|(_, meant)| meant).filter(|meant| meant != domain)
    }

    /// Returns a provider's domain after some random edits.
    fn typed() -> impl Strategy<Value = String> {
        let edits = prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), "[a-z0-9-]"), 0..4);
        const ENDS: &[&str] = &["com", "con", "net", "ner", "de", "co.uk", "xyz"];
        (prop::sample::select(PROVIDERS), edits, prop::sample::select(ENDS)).prop_map(
            |((name, _), edits, end)| {
                let mut name: Vec<char> = name.chars().collect();
                for (kind, at, letter) in edits {
                    let at = at.index(name.len().max(1));
                    match kind {
                        0 => name.insert(at, letter.chars().next().unwrap()),
                        1 if name.len() > 1 => drop(name.remove(at)),
                        2 if at + 1 < name.len() => name.swap(at, at + 1),
                        _ => name[at] = letter.chars().next().unwrap(),
                    }
                }
                format!("{}.{end}", name.into_iter().collect::<String>())
            },
        )
    }

    proptest! {
        #[test]
        fn no_typing_error_is_excluded_before_its_distance(domain in typed()) {
            prop_assert_eq!(did_you_mean(&domain), slow(&domain));
        }
    }

    #[test]
    fn typing_errors_are_found() {
        for (typed, meant) in [
            ("gmial.com", "gmail.com"),
            ("gamil.com", "gmail.com"),
            ("gmail.con", "gmail.com"),
            ("gmail.co", "gmail.com"),
            ("gmai.com", "gmail.com"),
            ("hotmial.co.uk", "hotmail.co.uk"),
            ("hotmai.fr", "hotmail.fr"),
            ("yaho.com", "yahoo.com"),
            ("outlok.com", "outlook.com"),
            ("iclould.com", "icloud.com"),
            ("comcast.ner", "comcast.net"),
            ("googlemial.com", "googlemail.com"),
        ] {
            assert_eq!(did_you_mean(typed).as_deref(), Some(meant), "{typed}");
        }
    }

    #[test]
    fn other_domains_are_no_typing_errors() {
        for (name, ends) in PROVIDERS {
            for end in *ends {
                assert_eq!(did_you_mean(&format!("{name}.{end}")), None);
            }
        }
        for domain in [
            "mail.com",
            "ymail.com",
            "email.com",
            "gmx.com",
            "example.org",
            "gmail.example.com",
            "a.b",
            "x",
            "yahoo.xyz",
            "[192.0.2.1]",
            "mailboxes.org",
        ] {
            assert_eq!(did_you_mean(domain), None, "{domain}");
        }
    }

    #[test]
    fn spellings_of_one_mailbox_have_one_form() {
        let normal = |address: &str| normal_form(&Mailbox::parse(address).unwrap()).into_owned();
        for (address, form) in [
            ("Ann@Example.COM", "ann@example.com"),
            ("a.n.n+x@gmail.com", "ann@gmail.com"),
            ("ann+x@example.com", "ann+x@example.com"),
            ("+x@gmail.com", "+x@gmail.com"),
            ("\"A b\"@example.com", "\"A b\"@example.com"),
            ("Jörg@bücher.test", "jörg@xn--bcher-kva.test"),
        ] {
            assert_eq!(normal(address), form);
        }
    }
}
