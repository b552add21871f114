use proptest::prelude::*;

use super::*;
use crate::proto::properties;

const ALL: [Verb; 17] = [
    Verb::Connect,
    Verb::Ehlo,
    Verb::Helo,
    Verb::Lhlo,
    Verb::StartTls,
    Verb::Auth,
    Verb::AuthResponse,
    Verb::Mail,
    Verb::Rcpt,
    Verb::Data,
    Verb::Message,
    Verb::Bdat,
    Verb::BdatLast,
    Verb::Rset,
    Verb::Noop,
    Verb::Vrfy,
    Verb::Quit,
];

fn receive(dialogue: &mut Dialogue, code: u16) -> Verb {
    dialogue.receive(&Reply::parse(code.to_string().as_bytes()).unwrap()).unwrap()
}

/// Returns a dialogue after these commands and replies.
fn after(steps: &[(Verb, u16)]) -> Dialogue {
    let mut dialogue = Dialogue::new();
    receive(&mut dialogue, 220);
    for &(verb, code) in steps {
        dialogue.send(verb).unwrap();
        assert_eq!(receive(&mut dialogue, code), verb);
    }
    dialogue
}

/// Returns a dialogue in the state Ready, with PIPELINING.
fn pipelined() -> Dialogue {
    let mut dialogue = after(&[(Verb::Ehlo, 250)]);
    dialogue.set_pipelining(true);
    dialogue
}

/// Commands with their replies.
type Steps = &'static [(Verb, u16)];

/// Receives a reply whose lines carry two codes.
fn receive_mixed(dialogue: &mut Dialogue, first: u16, second: u16) {
    dialogue.receive(&Reply::parse(format!("{first}-a\r\n{second} b").as_bytes()).unwrap()).unwrap();
}

#[test]
fn a_reply_of_two_codes_allows_nothing_new() {
    use Verb::*;
    let table: &[(Steps, Verb, State)] = &[
        (&[], Ehlo, State::Connected),
        (&[EHLO], Ehlo, State::Ready),
        // The transaction may have begun, so the connection is not idle. No recipient was accepted.
        (&[EHLO], Mail, State::Mail),
        (&[EHLO, MAIL], Rcpt, State::Mail),
        (&[EHLO, MAIL, RCPT], Rcpt, State::Rcpt),
        (&[EHLO, MAIL], Rset, State::Mail),
        (&[EHLO, MAIL, RCPT], Rset, State::Rcpt),
        (&[EHLO, MAIL, RCPT], Ehlo, State::Rcpt),
        (&[EHLO, MAIL, RCPT], Noop, State::Rcpt),
        (&[EHLO, MAIL, RCPT], Bdat, State::Rcpt),
        (&[EHLO, MAIL, RCPT], BdatLast, State::Ready),
        (&[EHLO, MAIL, RCPT, (Data, 354)], Message, State::Ready),
        // It is unknown what the server expects now, or how many replies will arrive.
        (&[EHLO, MAIL, RCPT], Data, State::Closed),
        (&[EHLO], StartTls, State::Closed),
        (&[EHLO], Auth, State::Closed),
        (&[EHLO, (Auth, 334)], AuthResponse, State::Closed),
        (&[EHLO], Quit, State::Closed),
        (&[(Lhlo, 250), MAIL, RCPT], Rcpt, State::Closed),
    ];
    for &(steps, verb, state) in table {
        for codes in [(250, 550), (550, 250), (354, 250), (235, 535), (220, 454), (221, 250), (334, 535)] {
            let mut dialogue = after(steps);
            dialogue.send(verb).unwrap();
            receive_mixed(&mut dialogue, codes.0, codes.1);
            assert_eq!(dialogue.state(), state, "{verb:?} after {steps:?}, {codes:?}");
            let may_send = dialogue.clone().send(Data).is_ok();
            assert_eq!(may_send, state == State::Rcpt, "{verb:?} after {steps:?}");
        }
    }
    let mut dialogue = Dialogue::new();
    receive_mixed(&mut dialogue, 220, 554);
    assert_eq!(dialogue.state(), State::Closed);
}

#[test]
fn a_refused_rset_keeps_the_transaction() {
    for code in [500, 502, 503, 504, 421] {
        let mut dialogue = after(&[EHLO, MAIL, RCPT, (Verb::Rset, code)]);
        let closed = code == 421;
        assert_eq!(dialogue.state(), if closed { State::Closed } else { State::Rcpt });
        assert!(!dialogue.is_idle() && (closed || dialogue.send(Verb::Mail).is_err()));
    }
}

const EHLO: (Verb, u16) = (Verb::Ehlo, 250);
const MAIL: (Verb, u16) = (Verb::Mail, 250);
const RCPT: (Verb, u16) = (Verb::Rcpt, 250);

/// Commands with their replies, the state they lead to, and what is legal there.
type Row = (Steps, State, &'static [Verb]);

#[test]
fn each_state_lets_its_commands_pass_and_no_others() {
    use Verb::*;
    // RFC 5321 4.1.4
    let any_time = [Ehlo, Helo, Lhlo, Rset, Noop, Vrfy, Quit];
    let table: &[Row] = &[
        (&[], State::Connected, &[]),
        (&[EHLO], State::Ready, &[StartTls, Auth, Mail]),
        (&[(Helo, 250)], State::Ready, &[StartTls, Auth, Mail]),
        (&[EHLO, MAIL], State::Mail, &[Rcpt]),
        (&[EHLO, MAIL, RCPT], State::Rcpt, &[Rcpt, Data, Bdat, BdatLast]),
        (&[EHLO, MAIL, RCPT, (Bdat, 250)], State::Rcpt, &[Rcpt, Data, Bdat, BdatLast]),
    ];
    for (steps, state, legal) in table {
        let dialogue = after(steps);
        assert_eq!(dialogue.state(), *state, "{steps:?}");
        for verb in ALL {
            let sent = dialogue.clone().send(verb);
            if any_time.contains(&verb) || legal.contains(&verb) {
                assert_eq!(sent, Ok(()), "{verb:?} at {state:?}");
            } else {
                assert_eq!(sent, Err(DialogueError::Sequence { verb, state: *state }));
            }
        }
    }
    let only: &[Row] = &[
        (&[EHLO, MAIL, RCPT, (Data, 354)], State::Message, &[Message]),
        (&[EHLO, (Auth, 334)], State::Auth, &[AuthResponse]),
        (&[EHLO, (Auth, 334), (AuthResponse, 334)], State::Auth, &[AuthResponse]),
        (&[EHLO, (StartTls, 220)], State::Tls, &[]),
        (&[EHLO, (Quit, 221)], State::Closed, &[]),
        (&[EHLO, (Noop, 421)], State::Closed, &[]),
    ];
    for (steps, state, legal) in only {
        let dialogue = after(steps);
        assert_eq!(dialogue.state(), *state, "{steps:?}");
        for verb in ALL {
            assert_eq!(dialogue.clone().send(verb).is_ok(), legal.contains(&verb), "{verb:?} at {state:?}");
        }
    }
}

#[test]
fn nothing_may_be_sent_before_the_banner() {
    // RFC 5321 3.1; postscreen drops a client for it.
    for pipelining in [false, true] {
        let mut dialogue = Dialogue::new();
        dialogue.set_pipelining(pipelining);
        for verb in ALL {
            assert!(dialogue.send(verb).is_err(), "{verb:?}");
        }
        assert_eq!(
            (dialogue.state(), dialogue.owed(), dialogue.due()),
            (State::Banner, 1, Some(Verb::Connect))
        );
    }
}

#[test]
fn a_reply_leads_where_the_rfc_says() {
    use Verb::*;
    let table: &[(&[(Verb, u16)], State)] = &[
        (&[(Ehlo, 502)], State::Connected),
        (&[(Ehlo, 502), (Helo, 250)], State::Ready),
        (&[EHLO, (Mail, 550)], State::Ready),
        (&[EHLO, MAIL, (Rcpt, 550)], State::Mail),
        (&[EHLO, MAIL, RCPT, (Rcpt, 452)], State::Rcpt),
        (&[EHLO, MAIL, RCPT, (Data, 451)], State::Rcpt),
        // A reply of another class permits nothing either.
        (&[EHLO, MAIL, RCPT, (Data, 250)], State::Rcpt),
        (&[EHLO, MAIL, RCPT, (Data, 354), (Message, 250)], State::Ready),
        (&[EHLO, MAIL, RCPT, (Data, 354), (Message, 554)], State::Ready),
        (&[EHLO, MAIL, RCPT, (BdatLast, 250)], State::Ready),
        (&[EHLO, MAIL, RCPT, (Rset, 250)], State::Ready),
        (&[EHLO, MAIL, RCPT, (Noop, 250)], State::Rcpt),
        (&[EHLO, MAIL, RCPT, (Vrfy, 252)], State::Rcpt),
        // RFC 5321 4.1.4: EHLO in a transaction resets it, as RSET does
        (&[EHLO, MAIL, RCPT, EHLO], State::Ready),
        (&[(Rset, 250)], State::Connected),
        (&[EHLO, (StartTls, 454)], State::Ready),
        (&[EHLO, (Auth, 235)], State::Ready),
        (&[EHLO, (Auth, 535)], State::Ready),
        (&[EHLO, (Auth, 334), (AuthResponse, 235)], State::Ready),
        (&[EHLO, (Auth, 334), (AuthResponse, 535)], State::Ready),
    ];
    for (steps, state) in table {
        let dialogue = after(steps);
        assert_eq!(dialogue.state(), *state, "{steps:?}");
        assert_eq!(dialogue.is_idle(), *state == State::Ready, "{steps:?}");
    }
}

#[test]
fn a_banner_that_is_not_220_refuses_us() {
    for code in [554, 421, 450, 250] {
        let mut dialogue = Dialogue::new();
        assert_eq!(receive(&mut dialogue, code), Verb::Connect);
        assert_eq!(dialogue.state(), State::Closed);
    }
}

#[test]
fn a_group_holds_what_rfc_2920_allows() {
    use Verb::*;
    // (group, the command that must wait): 3.1, "MUST be the last in a group"; BDAT by RFC 3030 4.2
    let groups: &[(&[Verb], Option<Verb>)] = &[
        (&[Mail, Rcpt, Rcpt, Data], Some(Message)),
        (&[Rset, Mail, Rcpt, Rset, Mail, Rcpt], None),
        (&[Mail, Rcpt, Bdat, Bdat, BdatLast, Mail, Rcpt, BdatLast], None),
        (&[Mail, Rcpt, Rset, Quit], Some(Mail)),
        (&[Noop], Some(Mail)),
        (&[Vrfy], Some(Vrfy)),
        (&[Ehlo], Some(Mail)),
        (&[Auth], Some(Mail)),
        (&[StartTls], Some(Ehlo)),
    ];
    for (group, last) in groups {
        let mut dialogue = pipelined();
        for &verb in *group {
            assert_eq!(dialogue.send(verb), Ok(()), "{verb:?} in {group:?}");
        }
        assert_eq!(dialogue.owed(), group.len());
        if let Some(verb) = *last {
            let after = group[group.len() - 1];
            assert_eq!(dialogue.send(verb), Err(DialogueError::Group { verb, after }));
        }
    }
    // The final dot begins a new group, which may contain the next envelope.
    let mut dialogue = after(&[EHLO, MAIL, RCPT, (Data, 354)]);
    dialogue.set_pipelining(true);
    for verb in [Message, Mail, Rcpt, Data] {
        assert_eq!(dialogue.send(verb), Ok(()));
    }
}

#[test]
fn without_pipelining_each_command_waits() {
    let mut dialogue = after(&[EHLO]);
    dialogue.send(Verb::Mail).unwrap();
    let refused = DialogueError::Group { verb: Verb::Rcpt, after: Verb::Mail };
    assert_eq!(dialogue.send(Verb::Rcpt), Err(refused));
    assert_eq!(receive(&mut dialogue, 250), Verb::Mail);
    dialogue.send(Verb::Rcpt).unwrap();
}

#[test]
fn refusals_in_a_group_leave_the_rest_in_step() {
    use Verb::*;
    let run = |group: &[(Verb, u16)]| {
        let mut dialogue = pipelined();
        group.iter().for_each(|&(verb, _)| dialogue.send(verb).unwrap());
        for (n, &(verb, code)) in group.iter().enumerate() {
            assert!(!dialogue.is_idle());
            assert_eq!(dialogue.owed(), group.len() - n);
            assert_eq!(receive(&mut dialogue, code), verb);
        }
        dialogue
    };
    assert_eq!(run(&[MAIL, (Rcpt, 550), RCPT, (Rcpt, 452)]).state(), State::Rcpt);
    assert_eq!(run(&[MAIL, (Rcpt, 550), (Rcpt, 550)]).state(), State::Mail);
    assert!(run(&[(Mail, 550), (Rcpt, 503), (Rcpt, 503)]).is_idle());
    assert!(run(&[(Mail, 550), (Rcpt, 503), (Rset, 250)]).is_idle());
    // RFC 2920 3.1: 354 although every RCPT was refused requires a lone dot.
    let mut dialogue = run(&[MAIL, (Rcpt, 550), (Data, 354)]);
    assert_eq!(dialogue.state(), State::Message);
    assert!(dialogue.send(Quit).is_err());
    dialogue.send(Message).unwrap();
    assert_eq!(receive(&mut dialogue, 554), Message);
    assert!(dialogue.is_idle());
    assert_eq!(run(&[MAIL, (Rcpt, 550), (Data, 503)]).state(), State::Mail);
}

#[test]
fn a_421_is_the_end_wherever_it_comes() {
    for verb in [Verb::Mail, Verb::Rcpt, Verb::Data] {
        let mut dialogue = pipelined();
        let group = [Verb::Mail, Verb::Rcpt, Verb::Data];
        group.iter().for_each(|&verb| dialogue.send(verb).unwrap());
        for sent in group {
            receive(&mut dialogue, if sent == verb { 421 } else { 250 });
        }
        assert_eq!(dialogue.state(), State::Closed, "421 to {verb:?}, with any reply after it");
        assert!(!dialogue.is_idle());
        assert!(dialogue.send(Verb::Quit).is_err());
    }
    // At once, not with the last reply.
    let mut dialogue = pipelined();
    [Verb::Mail, Verb::Rcpt].iter().for_each(|&verb| dialogue.send(verb).unwrap());
    receive(&mut dialogue, 421);
    assert!(dialogue.send(Verb::Rcpt).is_err());
}

#[test]
fn a_group_goes_on_while_its_first_replies_come_in() {
    let mut dialogue = pipelined();
    [Verb::Mail, Verb::Rcpt].iter().for_each(|&verb| dialogue.send(verb).unwrap());
    receive(&mut dialogue, 250);
    // RCPT has no reply yet, but was sent.
    dialogue.send(Verb::Data).unwrap();
}

#[test]
fn a_dialogue_at_rest_gives_its_memory_back() {
    let mut dialogue = pipelined();
    dialogue.shrink();
    assert_eq!(dialogue.owed.capacity(), 0);
}

#[test]
fn a_reply_to_nothing_is_the_end_too() {
    for code in [250, 421, 550] {
        let mut dialogue = after(&[EHLO]);
        let reply = Reply::parse(code.to_string().as_bytes()).unwrap();
        assert_eq!(dialogue.receive(&reply), Err(DialogueError::Unsolicited(code)));
        assert_eq!(dialogue.state(), State::Closed);
    }
}

#[test]
fn tls_resets_everything_learnt_before() {
    // RFC 3207 4.2
    let mut dialogue = pipelined();
    dialogue.send(Verb::StartTls).unwrap();
    receive(&mut dialogue, 220);
    dialogue.secured();
    assert_eq!((dialogue.state(), dialogue.owed()), (State::Connected, 0));
    assert!(dialogue.send(Verb::Mail).is_err(), "not greeted inside TLS");
    dialogue.send(Verb::Rset).unwrap();
    assert!(dialogue.send(Verb::Noop).is_err(), "PIPELINING is forgotten");
}

#[test]
fn over_lmtp_the_message_is_answered_once_per_accepted_recipient() {
    // RFC 2033 4.2
    let mut dialogue = after(&[(Verb::Lhlo, 250), MAIL, RCPT, (Verb::Rcpt, 550), RCPT, (Verb::Data, 354)]);
    dialogue.send(Verb::Message).unwrap();
    assert_eq!(dialogue.owed(), 2);
    assert_eq!(receive(&mut dialogue, 250), Verb::Message);
    assert!(!dialogue.is_idle(), "one is owed still");
    assert_eq!(receive(&mut dialogue, 452), Verb::Message);
    assert!(dialogue.is_idle());
    // The next transaction counts from 0, and so does one after RSET.
    for verb in [Verb::Mail, Verb::Rcpt, Verb::Rset, Verb::Mail, Verb::Rcpt] {
        dialogue.send(verb).unwrap();
        receive(&mut dialogue, 250);
    }
    dialogue.send(Verb::BdatLast).unwrap();
    assert_eq!(dialogue.owed(), 1);
    // The number of replies owed for BDAT LAST is known after the replies to RCPT.
    let mut dialogue = after(&[(Verb::Lhlo, 250)]);
    dialogue.set_pipelining(true);
    dialogue.send(Verb::Mail).unwrap();
    dialogue.send(Verb::Rcpt).unwrap();
    let refused = DialogueError::Group { verb: Verb::BdatLast, after: Verb::Rcpt };
    assert_eq!(dialogue.send(Verb::BdatLast), Err(refused));
    // EHLO switches back to SMTP.
    let mut dialogue = after(&[(Verb::Lhlo, 250), EHLO, MAIL, RCPT, RCPT, (Verb::Data, 354)]);
    dialogue.send(Verb::Message).unwrap();
    assert_eq!(dialogue.owed(), 1);
}

proptest! {
    #[test]
    fn replies_answer_commands_in_order_for_any_input(
        steps in prop::collection::vec(any::<u8>(), 0..200),
        pipelining in any::<bool>(),
    ) {
        properties::dialogue(&steps, pipelining);
    }

    /// The same, with transactions more often than by chance.
    #[test]
    fn replies_answer_commands_in_order_in_a_transaction(
        greeting in prop::sample::select(vec![1u8, 3]),
        steps in prop::collection::vec(prop::sample::select(vec![7u8, 8, 8, 8, 9, 10, 11, 12, 13, 133, 133, 133, 136, 140]), 0..200),
    ) {
        properties::dialogue(&[&[132, greeting, 133][..], &steps].concat(), true);
    }
}
