//! The names of columns: those of addresses in many languages, and unique names for all.

use std::collections::HashSet;

/// Names of address columns, the most certain first, in lower case and without punctuation.
const NAMES: &[&str] = &[
    "email",
    "emailaddress",
    "emailadresse",
    "mail",
    "mailaddress",
    "mailadresse",
    "useremail",
    "emails",
    "emailid",
    "primaryemail",
    "workemail",
    "contactemail",
    "customeremail",
    "subscriberemail",
    // Spanish, Portuguese, French, Italian, Romanian.
    "correo",
    "correoelectrónico",
    "correoelectronico",
    "direccióndecorreo",
    "courriel",
    "adressemail",
    "adresseemail",
    "adresseélectronique",
    "indirizzoemail",
    "indirizzomail",
    "postaelettronica",
    "endereçodeemail",
    "enderecodeemail",
    "adresaemail",
    "adresădeemail",
    // Dutch, German and the languages of the north.
    "emailadres",
    "mailadres",
    "epostadresse",
    "epost",
    "epostadress",
    "epostadresser",
    "sähköposti",
    "sähköpostiosoite",
    "netfang",
    "tölvupóstur",
    "mejl",
    "mejladress",
    // Polish, Czech, Slovak, Hungarian, Turkish, Greek, and the languages of the Balkans and Baltic.
    "adresemail",
    "poczta",
    "adresemailowy",
    "emailováadresa",
    "emailovaadresa",
    "emailcím",
    "emailcim",
    "eposta",
    "epostaadresi",
    "epošta",
    "epoštninaslov",
    "elektroniskaispasts",
    "epastas",
    "meiliaadress",
    "ηλεκτρονικήδιεύθυνση",
    "ηλεκτρονικόταχυδρομείο",
    // Russian, Ukrainian, Bulgarian.
    "почта",
    "электроннаяпочта",
    "элпочта",
    "адресэлектроннойпочты",
    "емейл",
    "имейл",
    "електроннапошта",
    "пошта",
    // Chinese, Japanese, Korean, Vietnamese, Thai, Arabic, Hebrew, Persian, Hindi.
    "邮箱",
    "电子邮箱",
    "电子邮件",
    "邮件",
    "邮箱地址",
    "电子邮件地址",
    "電子郵件",
    "電子信箱",
    "信箱",
    "メール",
    "メールアドレス",
    "eメール",
    "eメールアドレス",
    "電子メール",
    "이메일",
    "이메일주소",
    "메일",
    "전자우편",
    "thưđiệntử",
    "อีเมล",
    "البريدالإلكتروني",
    "بريدإلكتروني",
    "الايميل",
    "דואל",
    "דואראלקטרוני",
    "אימייל",
    "ایمیل",
    "ईमेल",
    // These have other meanings, too.
    "recipient",
    "mailbox",
    "to",
    "address",
];
/// The number of names at the end that have other meanings, too. A name that contains `email` comes before them, as in
/// `Address,Contact Email`.
const AMBIGUOUS: usize = 4;

/// Returns how certain it is that a column of this name holds addresses: 0 is the most certain. None if its name does
/// not tell.
pub(super) fn rank(name: &str) -> Option<usize> {
    // No name of an address column is longer.
    if name.len() > 200 {
        return None;
    }
    let plain = plain(name);
    let known = NAMES.iter().position(|known| *known == plain);
    let certain = NAMES.len() - AMBIGUOUS;
    match known {
        Some(known) if known < certain => Some(known),
        _ if ["email", "emailaddress"].iter().any(|part| plain.contains(part)) => Some(certain),
        _ if plain.contains("メール") || plain.contains("邮箱") || plain.contains("почт") => {
            Some(certain)
        }
        known => known.map(|known| known + 1),
    }
}

/// Returns a name in lower case, without spaces and punctuation.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Returns the names of `width` columns, each once. A column without a name is `column_3`, and the second `email` is
/// `email_2`.
pub(super) fn unique<N: AsRef<str>>(header: &[N], width: usize) -> Vec<String> {
    let mut taken: HashSet<String> = header.iter().map(|name| name.as_ref().trim().to_owned()).collect();
    let mut seen = HashSet::new();
    let mut numbers = std::collections::HashMap::new();
    (0..width.max(header.len()))
        .map(|column| {
            let name = header.get(column).map_or("", |name| name.as_ref().trim());
            let (base, first) = match name {
                "" => (format!("column_{}", column + 1), true),
                name => (name.to_owned(), !seen.contains(name)),
            };
            let is_named = !name.is_empty();
            if first && (is_named || !taken.contains(&base)) {
                seen.insert(base.clone());
                taken.insert(base.clone());
                return base;
            }
            // The numbers go on from name to name, so that each is tried once.
            let number = numbers.entry(base.clone()).or_insert(1_u64);
            loop {
                *number += 1;
                let numbered = format!("{base}_{number}");
                if taken.insert(numbered.clone()) {
                    seen.insert(numbered.clone());
                    return numbered;
                }
            }
        })
        .collect()
}

/// Shows names for an error: the first 20 of them, each cut.
pub(super) fn listed(names: &[String]) -> String {
    const MOST: usize = 20;
    const LONG: usize = 40;
    let shown = |name: &String| match name.char_indices().nth(LONG) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    };
    let mut text = names.iter().take(MOST).map(shown).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_many_languages() {
        for name in [
            "E-Mail",
            "e-mail address",
            "E-Mail-Adresse",
            "Correo electrónico",
            "Courriel",
            "Почта",
            "メールアドレス",
            "电子邮件",
            "البريد الإلكتروني",
            "E-posta",
            "Contact Email (work)",
        ] {
            assert!(rank(name).is_some(), "{name}");
        }
        assert!(rank("E-Mail") < rank("Contact Email") && rank("Contact Email") < rank("Address"));
        assert_eq!([rank("name"), rank("telephone"), rank("")], [None, None, None]);
    }

    #[test]
    fn each_name_occurs_once() {
        let check = |header: &[&str], width, names: &[&str]| assert_eq!(unique(header, width), names);
        check(&["email", "email", "id"], 0, &["email", "email_2", "id"]);
        check(&["email", "", " id "], 5, &["email", "column_2", "id", "column_4", "column_5"]);
        check(&["x", "x", "x_2", "x_2"], 0, &["x", "x_3", "x_2", "x_2_2"]);
        check(&["", "column_1"], 0, &["column_1_2", "column_1"]);
        let many = vec!["x"; 100_000];
        let names: HashSet<_> = unique(&many, 0).into_iter().collect();
        assert_eq!(names.len(), 100_000);
    }
}
