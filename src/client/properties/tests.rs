use std::{cell::RefCell, rc::Rc};

use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::*;

use super::{
    wire::{End, Wire, metrics, paused},
    *,
};
use crate::{
    client::{Session, Timeouts},
    proto::{ClientName, Command, MailParams, Mailbox, ReversePath},
};

/// Returns what arbitrary makes of octets, as it does in `fuzz/`.
fn step() -> impl Strategy<Value = Step> {
    any::<[u8; 32]>()
        .prop_filter_map("too short", |octets| Step::arbitrary(&mut Unstructured::new(&octets)).ok())
}

proptest! {
    #[test]
    fn a_session_is_in_step_or_not_idle(
        pipelining: bool, starttls: bool, near: bool, away: (u8, u8), steps in prop::collection::vec(step(), 0..40),
    ) {
        let (round_trip, connect) = if near { (0, 0) } else { away };
        session_ops(Offer { pipelining, starttls, round_trip, connect }, &steps);
    }

    #[test]
    fn pipelined_replies_come_in_the_order_of_their_recipients(
        codes in prop::collection::vec(prop_oneof![Just(250u16), 400..600u16], 1..200),
        slow: bool,
    ) {
        let wire = Rc::new(RefCell::new(Wire::default()));
        {
            let mut wire = wire.borrow_mut();
            wire.slow = slow;
            // EHLO and MAIL, and each recipient with a reply of its own.
            wire.answers.extend([b"250-mx\r\n250 PIPELINING\r\n".to_vec(), b"250 mail\r\n".to_vec()]);
            let numbered = codes.iter().enumerate().map(|(n, code)| format!("{code} 2.0.0 #{n}\r\n").into_bytes());
            wire.answers.extend(numbered);
        }
        let given = paused(async {
            let mut session = Session::secured(End(wire), Timeouts::default(), metrics());
            session.greet(&Command::Ehlo(ClientName::parse("client.example.org").unwrap())).await.unwrap();
            let rcpts: Vec<Mailbox> =
                (0..codes.len()).map(|n| Mailbox::parse(&format!("user{n}@example.com")).unwrap()).collect();
            session.envelope(&ReversePath::Null, &MailParams::default(), &rcpts).await.unwrap().rcpts
        });
        // 421 closes the dialogue, and the replies behind it are still those to their recipients.
        for (n, (reply, code)) in given.iter().zip(&codes).enumerate() {
            prop_assert_eq!(reply.to_string(), format!("{code} 2.0.0 #{n}"));
        }
        prop_assert_eq!(given.len(), codes.len());
    }

    #[test]
    fn a_secret_goes_in_its_form_to_a_server_that_asks(
        token: bool,
        user in "[a-z\0\x01]{0,3}",
        secret in "[a-z]{9,12}|[a-z\0\x01]{0,3}",
        mechanisms in "(PLAIN |login |XOAUTH2 |CRAM-MD5 ){0,4}",
        answers in prop::collection::vec("334 [a-zA-Z=]{0,8}\r\n|334 \r\n|334 \r\n|235 2.7.0 ok\r\n|535 no\r\n|250 ok\r\n|x", 0..5),
    ) {
        let answers: Vec<&[u8]> = answers.iter().map(|answer| answer.as_bytes()).collect();
        auth_challenge(token, &user, &secret, &mechanisms, &answers);
    }
}

/// Five backslashes are shown as ten, which holds nine.
#[test]
fn a_name_shown_escaped_gives_no_secret_away() {
    auth_challenge(false, &"\\".repeat(5), &"\\".repeat(9), "PLAIN", &[b"535 no\r\n"]);
}
