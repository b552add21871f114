//! Finds the queue ID and the recipient in a line of a log.
//!
//! | written by | line |
//! |---|---|
//! | Postfix | `… postfix/smtp[123]: 4XyZ12: to=<ann@x.test>, relay=…` |
//! | Exim | `2026-01-01 00:00:00 1abCde-000001-2F ** ann@x.test R=dnslookup …` |
//! | Sendmail | `… sm-mta[123]: 5B1AbCdE012345: to=<ann@x.test>, delay=…` |

/// Returns the queue ID of a log line.
pub(super) fn queue_id(line: &str) -> Option<&str> {
    let is_id = |word: &&str| word.len() >= 6 && word.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let is_program = |word: &str| word.ends_with("]:") || word.ends_with(':') && word.contains('/');
    let mut words = line.split_ascii_whitespace();
    // Postfix and Sendmail write it behind the name of their program.
    if words.by_ref().take(8).any(is_program) {
        return words.next()?.strip_suffix(':').filter(is_id).filter(|id| *id != "NOQUEUE");
    }
    line.split_ascii_whitespace().take(4).find(|word| is_exim_id(word))
}

/// Returns whether the word is a message ID of Exim: `1abCde-000001-2F`, since 4.97 `1abCde-0000000001-2Fab`.
fn is_exim_id(word: &str) -> bool {
    let mut parts = word.split('-');
    let mut is_part = |lengths: &[usize]| {
        parts.next().is_some_and(|part| {
            lengths.contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_alphanumeric())
        })
    };
    is_part(&[6]) && is_part(&[6, 11]) && is_part(&[2, 4]) && parts.next().is_none()
}

/// Returns the recipient that a log line names.
pub(super) fn recipient(line: &str) -> Option<&str> {
    let within = |mark: &str| {
        let rest = &line[line.find(mark)? + mark.len()..];
        rest.find('>').map(|end| &rest[..end]).filter(|address| address.contains('@'))
    };
    let exim = || {
        let mut words = line.split_ascii_whitespace().skip_while(|word| !is_exim_id(word)).skip(1);
        let sign = words.next()?;
        words.next().filter(|word| matches!(sign, "**" | "==" | "=>" | "->") && word.contains('@'))
    };
    within("to=<").or_else(|| within("RCPT TO:<")).or_else(|| within("rejected RCPT <")).or_else(exim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_each_server_name_message_and_recipient() {
        for (line, id, to) in [
            (
                "Jan  1 00:00:00 mx postfix/smtp[123]: 4XyZ12AbC: to=<ann@x.test>, relay=none, status=deferred (x)",
                Some("4XyZ12AbC"),
                Some("ann@x.test"),
            ),
            (
                "mx postfix/smtpd[9]: NOQUEUE: reject: RCPT from x[192.0.2.1]: 550 5.1.1 x; from=<> to=<bob@x.test>",
                None,
                Some("bob@x.test"),
            ),
            (
                "2026-01-01 00:00:00 1abCde-000001-2F ** ann@x.test R=dnslookup T=remote_smtp: 550 no",
                Some("1abCde-000001-2F"),
                Some("ann@x.test"),
            ),
            (
                "2026-01-01 00:00:00 1abCde-00000000001-2Fab == ann@x.test R=dnslookup defer (110)",
                Some("1abCde-00000000001-2Fab"),
                Some("ann@x.test"),
            ),
            ("H=mx [192.0.2.1] F=<> rejected RCPT <ann@x.test>: Unknown user", None, Some("ann@x.test")),
            (
                "Jan 1 00:00:00 mx sm-mta[12]: 5B1AbCdE012345: to=<ann@x.test>, delay=00:00:01, stat=User unknown",
                Some("5B1AbCdE012345"),
                Some("ann@x.test"),
            ),
            ("550 5.1.1 User unknown", None, None),
            ("", None, None),
        ] {
            assert_eq!((queue_id(line), recipient(line)), (id, to), "{line}");
        }
    }
}
