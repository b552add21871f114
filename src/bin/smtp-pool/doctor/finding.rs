//! A finding and the advice that belongs to it.

use std::{
    fmt,
    io::{self, Write},
};

use serde::Serialize;

use crate::terminal::Terminal;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckState {
    /// As it should be.
    Ok,
    /// It works, but some servers may refuse us.
    Warning,
    /// It prevents verification.
    Failed,
    /// It could not be checked.
    Unknown,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    pub(super) state: CheckState,
    detail: String,
    /// What to do about the finding, if anything can be done.
    advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, CheckState::Ok, detail)
    }

    pub(super) fn warning(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, CheckState::Warning, detail)
    }

    pub(super) fn failed(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, CheckState::Failed, detail)
    }

    pub(super) fn unknown(check: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(check, CheckState::Unknown, detail)
    }

    fn new(check: &'static str, state: CheckState, detail: impl fmt::Display) -> Self {
        Self { check, state, detail: detail.to_string(), advice: None }
    }

    pub(super) fn advise(self, advice: impl fmt::Display) -> Self {
        Self { advice: Some(advice.to_string()), ..self }
    }

    pub(super) fn print(&self, out: &mut Terminal<impl Write>, json: bool) -> io::Result<()> {
        if json {
            return out.json(self);
        }
        let state = match self.state {
            CheckState::Ok => "ok",
            CheckState::Warning => "warning",
            CheckState::Failed => "FAILED",
            CheckState::Unknown => "unknown",
        };
        out.line(format_args!("{state:8} {:10} {}", self.check, self.detail))?;
        match &self.advice {
            Some(advice) => out.line(format_args!("{:19} -> {advice}", "")),
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
            finding.print(&mut Terminal::new(&mut out), json).unwrap();
            String::from_utf8(out).unwrap()
        };
        let finding = Finding::failed("ptr", "none\x1b[2J\nok       ptr").advise("get one\u{202e}");
        assert_eq!(
            print(&finding, false),
            "FAILED   ptr        none\\x1b[2J\\nok       ptr\n                    -> get one\\u{202e}\n"
        );
        assert_eq!(
            print(&Finding::ok("ptr", "x"), true),
            "{\"check\":\"ptr\",\"state\":\"ok\",\"detail\":\"x\",\"advice\":null}\n"
        );
    }
}
