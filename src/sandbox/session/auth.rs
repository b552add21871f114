//! AUTH PLAIN and LOGIN (RFC 4954, RFC 4616).

use bytes::BytesMut;

use super::{
    ServerSession, Step,
    phase::{Exchange, Phase},
};
use crate::proto::{Mechanism, SaslResponse};

impl ServerSession {
    pub(super) fn auth(
        &mut self,
        mechanism: &Mechanism,
        initial: Option<&SaslResponse>,
        out: &mut BytesMut,
    ) -> Step {
        if self.mx.config.accounts.is_empty() || self.mx.config.helo_only {
            return self.refuse(out, 502, "5.5.1", format_args!("Error: command not implemented"));
        }
        if !self.greeted || self.authenticated || self.transaction.is_some() {
            return self.refuse(out, 503, "5.5.1", format_args!("Error: AUTH is out of sequence"));
        }
        // The challenges of LOGIN: "Username:" and "Password:", in base64.
        let (exchange, challenge) = match mechanism.as_str() {
            "PLAIN" => (Exchange::Plain, ""),
            "LOGIN" => (Exchange::LoginUser, "VXNlcm5hbWU6"),
            _ => {
                let text = format_args!("Error: authentication mechanism not supported");
                return self.refuse(out, 504, "5.5.4", text);
            }
        };
        match initial {
            Some(initial) => self.auth_step(exchange, initial, out),
            None => self.challenge(exchange, challenge, out),
        }
    }

    /// Handles a further line of the dialogue.
    pub(super) fn auth_response(&mut self, line: &[u8], out: &mut BytesMut) -> Step {
        let Phase::Auth(exchange) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return Step::Next;
        };
        match (line.trim_ascii_end(), SaslResponse::parse(line.trim_ascii_end())) {
            (b"*", _) => self.refuse(out, 501, "5.7.0", format_args!("Authentication aborted")),
            (_, Ok(response)) => self.auth_step(exchange, &response, out),
            (_, Err(_)) => self.refuse(out, 501, "5.5.2", format_args!("Error: invalid base64")),
        }
    }

    fn auth_step(&mut self, exchange: Exchange, response: &SaslResponse, out: &mut BytesMut) -> Step {
        let response = response.decode();
        let accepted = match exchange {
            Exchange::LoginUser => {
                return self.challenge(Exchange::LoginPassword(response), "UGFzc3dvcmQ6", out);
            }
            Exchange::LoginPassword(user) => self.is_account(&user, &response),
            // authorize-id NUL authenticate-id NUL password
            Exchange::Plain => match *response.split(|&octet| octet == 0).collect::<Vec<_>>() {
                [_, user, password] => self.is_account(user, password),
                _ => false,
            },
        };
        if !accepted {
            return self.refuse(out, 535, "5.7.8", format_args!("Error: authentication failed"));
        }
        self.authenticated = true;
        self.reply(out, 235, "2.7.0", format_args!("Authentication successful"))
    }

    fn challenge(&mut self, exchange: Exchange, challenge: &str, out: &mut BytesMut) -> Step {
        self.phase = Phase::Auth(exchange);
        self.plain(out, 334, format_args!("{challenge}"))
    }

    fn is_account(&self, user: &[u8], password: &[u8]) -> bool {
        let accounts = self.mx.config.accounts.iter();
        accounts.into_iter().any(|(name, secret)| name.as_bytes() == user && secret.as_bytes() == password)
    }
}
