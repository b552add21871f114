//! AUTH against any answers of a server.

use std::{cell::RefCell, rc::Rc, time::Duration};

use super::wire::{End, Wire, metrics, paused};
use crate::{
    client::{ConnectError, Session, Timeouts, connect::authenticate},
    proto::{ClientName, Command, Credentials, SaslResponse, Verb, properties::decode_all},
};

/// Checks authentication against any offer and any answers. It ends, and succeeds only by a 235. The secret goes only to
/// a server that asks for it, in the form of its mechanism.
///
/// Each answer is to one line of the client; the connection ends after the last one.
pub fn auth_challenge(token: bool, user: &str, secret: &str, mechanisms: &str, answers: &[&[u8]]) {
    let (user, secret) = (user.to_owned(), secret.to_owned());
    let credentials = if token {
        Credentials::Token { user: user.clone(), token: secret.clone() }
    } else {
        Credentials::Password { user: user.clone(), password: secret.clone() }
    };
    let offer = format!("250-mx.example.com\r\n250 AUTH {}\r\n", mechanisms.replace(['\r', '\n'], " "));
    let wire = Rc::new(RefCell::new(Wire::default()));
    wire.borrow_mut().answers.push_back(offer.into_bytes());
    wire.borrow_mut().answers.extend(answers.iter().map(|answer| answer.to_vec()));
    let (ended, shown) = paused(async {
        let limit = Timeouts::all(Duration::from_secs(30));
        let mut session = Session::secured(End(Rc::clone(&wire)), limit, metrics());
        let ehlo = Command::Ehlo(ClientName::parse("client.example.org").expect("a name"));
        // The limit of a line keeps some offers from being read.
        if session.greet(&ehlo).await.is_err() {
            return (None, String::new());
        }
        wire.borrow_mut().no_more = true;
        let ended = authenticate(&mut session, &credentials).await;
        let shown = format!("{session:?} {credentials:?} {ended:?}");
        (Some(ended), shown)
    });
    let Some(ended) = ended else { return };

    let wire = wire.borrow();
    let replies: Vec<_> = decode_all([&wire.said[..]]).0.into_iter().skip(1).map_while(Result::ok).collect();
    let said = wire.lines.get(1..).unwrap_or_default();
    assert!(wire.heard.iter().skip(2).all(|&verb| verb == Verb::AuthResponse));
    let asked = replies.iter().take_while(|reply| reply.code() == 334).count();
    assert!(said.len() <= 1 + asked, "{said:?} is more than was asked for");
    let decisive = replies.get(asked).map(|reply| reply.code());
    match ended {
        Ok(()) => assert!(decisive == Some(235) && said.len() == 1 + asked),
        Err(ConnectError::Refused { verb, reply }) => {
            assert_eq!((verb, Some(reply.code())), (Verb::Auth, decisive));
        }
        Err(_) => {}
    }
    if said.is_empty() {
        return;
    }

    let Ok(Command::Auth { mechanism, initial }) = Command::parse(&said[0]) else { panic!("{said:?}") };
    // `AUTH =PLAIN` offers it too, for who reads `AUTH=PLAIN`.
    let mut offered = mechanisms.split_ascii_whitespace().map(|name| name.trim_start_matches('='));
    assert!(offered.any(|name| name.eq_ignore_ascii_case(mechanism.as_str())), "{mechanism:?} unasked");
    let parts = [initial].into_iter().map(|part| part.map(|part| part.decode()));
    let more = said[1..].iter().map(|line| SaslResponse::parse(line).ok().map(|part| part.decode()));
    let parts: Vec<Option<Vec<u8>>> = parts.chain(more).collect();
    let expected = match mechanism.as_str() {
        "PLAIN" => vec![Some(format!("\0{user}\0{secret}"))],
        "LOGIN" => vec![None, Some(user), Some(secret.clone())],
        "XOAUTH2" => vec![Some(format!("user={user}\x01auth=Bearer {secret}\x01\x01")), Some(String::new())],
        other => panic!("{other} is not for these credentials"),
    };
    let expected: Vec<_> = expected.into_iter().map(|part| part.map(String::into_bytes)).collect();
    assert!(expected.starts_with(&parts), "{parts:?}");

    // What is shown escaped may happen to be the secret only then.
    let (user, said) = (user_of(&credentials), String::from_utf8_lossy(&wire.said));
    let told = format!("{user}{user:?}{said}{said:?}");
    assert!(secret.len() <= 8 || told.contains(&secret) || !shown.contains(&secret), "{shown}");
}

fn user_of(credentials: &Credentials) -> &str {
    let (Credentials::Password { user, .. } | Credentials::Token { user, .. }) = credentials;
    user
}
