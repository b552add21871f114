//! A second parser of addresses: the crate `email_address`, which follows RFC 5322 where the library follows RFC 5321.
//! The test `differential` and the fuzz target `address_differential` share it.
//!
//! The two differ only as follows. The kind of our refusal or the form of the address shows which row applies:
//!
//! | form | here | there | why |
//! |---|---|---|---|
//! | a label with other characters than letters, digits, hyphens: `a@b_c` | refused | taken | RFC 5321 4.1.2 has LDH labels, RFC 5322 3.4.1 a dot-atom |
//! | a domain beyond ASCII, or with an A-label | IDNA decides (RFC 5890) | any characters | RFC 6531 3.3 requires U-labels |
//! | an address literal | its syntax is checked | any `dtext` | RFC 5321 4.1.3 against RFC 5322 3.4.1 |
//! | a tab in a quoted string, or a control beyond ASCII | refused | taken | `qtextSMTP`; RFC 5322 takes the tab for white space |
//! | a quoted space, `"\ "@a` | taken | refused | `quoted-pairSMTP` has the space, and so has RFC 5322 3.2.1 |
//! | an empty quoted string, `""@a` | taken | refused | both RFCs allow it |
//! | white space beyond ASCII at the start | refused | taken | it is lost where addresses are trimmed |
//! | angle brackets without a name, ` <a@b>` | refused | taken | a path or a name-addr, not an address |
//! | 254 octets in all, 253 in the domain | kept | 254 in the domain alone | RFC 5321 4.5.3.1.3, RFC 1035 2.3.4 |

use email_address::{EmailAddress, Options};
use smtp_pool::proto::{AddressErrorKind as Kind, Mailbox};

/// Panics if the two differ for another reason.
pub(crate) fn agree(text: &str) {
    match (
        Mailbox::parse(text),
        EmailAddress::parse_with_options(text, Options::default().without_display_text()),
    ) {
        (Ok(ours), Ok(theirs)) => {
            // The other parser splits at the last '@', which a literal may contain.
            if !ours.domain().starts_with('[') {
                assert_eq!(ours.local_part(), theirs.local_part());
                let same = theirs.domain().eq_ignore_ascii_case(ours.domain());
                assert!(same || needs_idna(theirs.domain()), "{ours} {theirs}");
            }
        }
        (Err(_), Err(_)) => {}
        (Ok(ours), Err(theirs)) => {
            let local_part = ours.local_part();
            let domain = &text[local_part.len() + 1..];
            let literal = domain.starts_with('[');
            let quoted = local_part == r#""""# || local_part.contains(r"\ ");
            assert!(literal || quoted || needs_idna(domain), "{text:?}: taken here, there {theirs:?}");
        }
        (Err(ours), Ok(theirs)) => {
            let strict = match ours.kind() {
                Kind::DomainChar => text[ours.at()..].starts_with(is_sign),
                Kind::Control | Kind::SurroundingWhitespace | Kind::DisplayName => true,
                Kind::ALabel | Kind::ULabel | Kind::TooLong | Kind::DomainTooLong => true,
                _ => theirs.domain().starts_with('[') || needs_idna(theirs.domain()),
            };
            assert!(strict, "{text:?}: taken there, here {ours:?}");
        }
    }
}

fn needs_idna(domain: &str) -> bool {
    !domain.is_ascii()
        || domain.split('.').any(|label| label.get(..4).is_some_and(|l| l.eq_ignore_ascii_case("xn--")))
}

/// Returns whether a dot-atom may have the character, but no label.
fn is_sign(c: char) -> bool {
    "!#$%&'*+/=?^_`{|}~".contains(c)
}
