//! Hostile clients, without sockets.

use std::net::Ipv4Addr;

use super::*;
use crate::sandbox::{ErrorLimits, World};

fn session() -> ServerSession {
    let world = "[[host]]\nname = 'mx.good.test'\naccounts = { tim = 'secret' }\n[[domain]]\nname = 'good.test'\n\
                 users = ['ann']";
    let world = World::from_toml(world).unwrap();
    let config = HostConfig {
        errors: Some(ErrorLimits { soft: 3, hard: 12, ..ErrorLimits::default() }),
        size_limit: 30,
        ..world.hosts[0].clone()
    };
    let mx = Mx {
        index: 0,
        seed: 1,
        config,
        directory: Arc::new(Directory::new(&world).unwrap()),
        greylist: None,
        harvest: Mutex::default(),
        counters: Counters::default(),
    };
    ServerSession::new(Arc::new(mx), Ipv4Addr::LOCALHOST.into(), 1, false)
}

/// Returns the replies to octets in chunks of random sizes.
fn replies(octets: &[u8], max_chunk: usize, rng: &mut Rng) -> BytesMut {
    let (mut session, mut input, mut out) = (session(), BytesMut::new(), BytesMut::new());
    session.banner(&mut out);
    let mut rest = octets;
    loop {
        match session.step(&mut input, &mut out) {
            Step::Read if rest.is_empty() => return out,
            Step::Read => {
                let (chunk, more) = rest.split_at(rng.usize(1..=max_chunk.min(rest.len())));
                input.extend_from_slice(chunk);
                rest = more;
            }
            Step::Pause(_) => {}
            // The connection would discard the octets it has read; their number depends on the chunks.
            _ => return out,
        }
    }
}

#[test]
fn any_octets_in_any_chunks_give_the_same_replies() {
    let parts: [&[u8]; 24] = [
        b"EHLO c.test\r\n",
        b"HELO c.test\r\n",
        b"MAIL FROM:<>\r\n",
        b"RCPT TO:<ann@good.test>\r\n",
        b"RCPT TO:<\xce\xb4@good.test>\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"..\r\n",
        b"\r\n",
        b"\n",
        b"\0",
        b"BDAT 5\r\n",
        b"BDAT 0 LAST\r\n",
        b"BDAT 18446744073709551615\r\n",
        b"AUTH PLAIN\r\n",
        b"AUTH LOGIN\r\n",
        b"*\r\n",
        b"dGlt\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"VRFY x\r\n",
        b"RCPT TO:<\"",
        b"STARTTLS\r\n",
        b"\xff\xfe",
    ];
    let mut rng = Rng::with_seed(1);
    for round in 0..500 {
        let mut octets = b"EHLO c.test\r\nMAIL FROM:<>\r\nRCPT TO:<ann@good.test>\r\n".to_vec();
        for _ in 0..rng.usize(0..20) {
            let _ = rng.choice(parts).map(|part| octets.extend_from_slice(part));
            if rng.u8(..) == 0 {
                octets.resize(octets.len() + 2 * MAX_LINE, b'x');
            }
        }
        let whole = replies(&octets, usize::MAX, &mut rng);
        assert_eq!(whole, replies(&octets, 7, &mut rng), "round {round}: {}", octets.escape_ascii());
        assert!(whole.is_ascii() && whole.ends_with(b"\r\n"));
    }
}
