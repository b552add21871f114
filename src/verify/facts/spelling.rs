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
    let near = |(meant, ends): &(&str, &[&str])| {
        let end = ends.iter().find(|of| **of == end).or_else(|| ends.iter().find(|of| **of == corrected))?;
        let most = if meant.len() < 7 { 1 } else { 2 };
        // Runs before the costly distance, because every address is checked.
        if name.len().abs_diff(meant.len()) > most {
            return None;
        }
        let distance = strsim::osa_distance(name, meant);
        (distance <= most).then(|| (distance, format!("{meant}.{end}")))
    };
    let found = PROVIDERS.iter().filter_map(near).min_by_key(|(distance, _)| *distance);
    found.map(|(_, meant)| meant).filter(|meant| meant != domain)
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
pub fn normal_form(mailbox: &Mailbox) -> String {
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
        if local.chars().any(char::is_uppercase) {
            local = local.to_lowercase().into();
        }
        // A local part that is only a tag stays as it is.
        if TAGS.contains(&domain)
            && let Some(at) = local.find('+').filter(|at| *at > 0)
        {
            local = local[..at].to_owned().into();
        }
        if domain == "gmail.com" && local.contains('.') {
            local = local.replace('.', "").into();
        }
    }
    format!("{local}@{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let normal = |address: &str| normal_form(&Mailbox::parse(address).unwrap());
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
