//! Addresses: RFC 5321 4.1.2 and 4.1.3, internationalised by RFC 6531 3.3 and IDNA.
//!
//! ```abnf
//! Mailbox        = Local-part "@" ( Domain / address-literal )
//! Local-part     = Dot-string / Quoted-string
//! Dot-string     = Atom *("."  Atom)
//! Atom           = 1*atext
//! atext          = ALPHA / DIGIT / "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "/" /
//!                  "=" / "?" / "^" / "_" / "`" / "{" / "|" / "}" / "~"    ; RFC 5322 3.2.3
//! atext          =/ UTF8-non-ascii                                        ; RFC 6531 3.3
//! Quoted-string  = DQUOTE *QcontentSMTP DQUOTE
//! QcontentSMTP   = qtextSMTP / quoted-pairSMTP
//! quoted-pairSMTP = %d92 %d32-126
//! qtextSMTP      = %d32-33 / %d35-91 / %d93-126
//! qtextSMTP      =/ UTF8-non-ascii                                        ; RFC 6531 3.3
//!
//! Domain         = sub-domain *("." sub-domain)
//! sub-domain     = Let-dig [Ldh-str]
//! sub-domain     =/ U-label                                               ; RFC 6531 3.3
//! Let-dig        = ALPHA / DIGIT
//! Ldh-str        = *( ALPHA / DIGIT / "-" ) Let-dig
//!
//! address-literal = "[" ( IPv4-address-literal / IPv6-address-literal / General-address-literal ) "]"
//! IPv4-address-literal = Snum 3("." Snum)
//! Snum           = 1*3DIGIT                                               ; 0 to 255
//! IPv6-address-literal = "IPv6:" IPv6-addr
//! General-address-literal = Standardized-tag ":" 1*dcontent
//! Standardized-tag = Ldh-str
//! dcontent       = %d33-90 / %d94-126
//!
//! ehlo           = "EHLO" SP ( Domain / address-literal ) CRLF            ; 4.1.1.1
//! Reverse-path   = Path / "<>"
//! ```
//!
//! Parsing is the only way to make these types. So a value contains no CR, LF, NUL or other control character, keeps
//! the length limits, and can be used in a command unchanged.
//!
//! # Interpretation
//!
//! * Lengths count octets on the wire. A local part with its quotes may have 64 (4.5.3.1.1), a label 63, a domain
//!   253, and the whole 254. RFC 3696 erratum 1690: a path has 256, two of them `<>`. 4.5.3.1.2 allows 255 for
//!   a domain, but RFC 1035 2.3.4 has that limit for a name in DNS messages. The text of the same name is two octets
//!   shorter.
//! * C1 controls, U+0080 to U+009F, are refused in a local part. UTF8-non-ascii includes them, but RFC 6531 3.3
//!   excludes controls from the extension and RFC 5198 2 says that C1 controls MUST NOT appear.
//! * The local part is stored as written. Only its host may interpret it (2.3.11), so `Bob`, `bob` and `"bob"` are
//!   three mailboxes, and no Unicode normalisation is done.
//! * The domain is lower-cased, and U-labels become A-labels (UTS #46, non-transitional, STD3 rules). An A-label that
//!   does not decode to a valid U-label is refused, and so is an underscore. Hyphens in the third and fourth place
//!   are accepted, since such names exist.
//! * `user@localhost` and `user@1.2.3.4` match the grammar and are accepted. The resolver decides whether a name
//!   exists. A trailing dot does not match the grammar.
//! * IP literals are rewritten in their shortest form (RFC 5952), so that equal hosts have equal text. `::` replaces
//!   at least two groups (4.1.3). An IPv6 address without its tag is refused. `[2001:db8::1]` could be a general
//!   literal tagged `2001`, but no such tag is registered.
//! * Comments, source routes, display names and white space around the address are refused with an error that names
//!   them. The caller trims.

mod client_name;
mod domain;
mod error;
mod literal;
mod local_part;
mod mailbox;
mod reverse_path;
mod text;

#[cfg(test)]
mod tests;

pub use client_name::ClientName;
pub use domain::Domain;
pub use error::{AddressError, AddressErrorKind};
pub use literal::Host;
pub use mailbox::Mailbox;
pub use reverse_path::ReversePath;
