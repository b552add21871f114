//! What was found, and what to do about it.

use std::{
    fmt,
    io::{self, Write},
};

use serde::Serialize;

use crate::exit::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It will do, but some servers will mind.
    Warning,
    /// Addresses cannot be verified like this.
    Failed,
    /// It could not be found out.
    Unknown,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    pub(super) state: State,
    detail: String,
    /// What to do; none where there is nothing to.
    advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, State::Ok, detail)
    }

    pub(super) fn warning(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, State::Warning, detail)
    }

    pub(super) fn failed(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, State::Failed, detail)
    }

    pub(super) fn unknown(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, State::Unknown, detail)
    }

    fn new(check: &'static str, state: State, detail: impl fmt::Display) -> Self {
        Self { check, state, detail: detail.to_string(), advice: None }
    }

    pub(super) fn advise(self, advice: impl fmt::Display) -> Self {
        Self { advice: Some(advice.to_string()), ..self }
    }

    pub(super) fn print(&self, out: &mut impl Write, json: bool) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return out.write_all(b"\n");
        }
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
            State::Unknown => "unknown",
        };
        writeln!(out, "{state:8} {:10} {}", self.check, printable(&self.detail))?;
        match &self.advice {
            Some(advice) => writeln!(out, "{:19} -> {}", "", printable(advice)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_advice_another() {
        let print = |finding: &Finding, json| {
            let mut out = Vec::new();
            finding.print(&mut out, json).unwrap();
            String::from_utf8(out).unwrap()
        };
        let finding = Finding::failed("ptr", "none\x1b[2J").advise("get one");
        assert_eq!(
            print(&finding, false),
            "FAILED   ptr        none\u{fffd}[2J\n                    -> get one\n"
        );
        assert_eq!(
            print(&Finding::ok("ptr", "x"), true),
            "{\"check\":\"ptr\",\"state\":\"ok\",\"detail\":\"x\",\"advice\":null}\n"
        );
    }
}
