//! What happens at a stage in place of the answer, or with it: faults, the tarpit's beginning, the blocklist.

use bytes::{BufMut, BytesMut};

use super::{Body, Phase, Session, Step};
use crate::sandbox::{Does, Stage, fault};

impl Session {
    /// Answers, unless what the host does at this stage is something else.
    pub(super) fn answer(
        &mut self,
        stage: Stage,
        out: &mut BytesMut,
        execute: impl FnOnce(&mut Self, &mut BytesMut) -> Step,
    ) -> Step {
        self.slow |= self.mx.config.tarpit.is_some_and(|tarpit| tarpit.from == stage);
        if self.is_blocked(stage) {
            return self.refuse_blocked(stage, out);
        }
        let Some(does) = self.fault(stage) else { return execute(self, out) };
        let start = out.len();
        match does {
            Does::Garbage => fault::garbage(&mut self.rng, out),
            Does::LongLine => fault::long_line(out),
            Does::EndlessContinuation => return Step::Endless,
            Does::Silence => return Step::Silence,
            Does::Skip => {
                let step = execute(self, out);
                out.truncate(start);
                return step;
            }
            Does::Eof => return Step::Close,
            Does::Truncate => {
                execute(self, out);
                out.truncate(start + (out.len() - start) / 2);
                return Step::Close;
            }
            Does::ExtraReply => {
                let step = execute(self, out);
                self.ok(out);
                return step;
            }
            Does::Reply(text) => {
                let step = match text.as_bytes() {
                    [b'3', b'5', b'4', ..] if stage == Stage::Data => {
                        self.phase = Phase::Body(Body::data());
                        Step::Next
                    }
                    [b'2' | b'3', ..] => execute(self, out),
                    _ => self.refused(stage),
                };
                out.truncate(start);
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
                return step;
            }
        }
        Step::Next
    }

    /// What goes wrong at this stage, this time.
    pub(in crate::sandbox) fn fault(&mut self, stage: Stage) -> Option<Does> {
        let faults = &self.mx.config.faults;
        if faults.is_empty() {
            return None;
        }
        let reached = &mut self.reached[stage as usize];
        *reached += 1;
        let fault =
            faults.iter().find(|fault| fault.at == stage && fault.nth.is_none_or(|nth| nth == *reached))?;
        tracing::debug!(host = self.mx.config.name, ?stage, does = ?fault.does, "fault");
        Some(fault.does.clone())
    }

    fn is_blocked(&self, stage: Stage) -> bool {
        let counters = &self.mx.counters;
        self.mx
            .config
            .blocked
            .is_some_and(|blocked| blocked.at == stage && counters.rcpts.get() >= blocked.after)
    }

    fn refuse_blocked(&mut self, stage: Stage, out: &mut BytesMut) -> Step {
        let refusals = self.mx.counters.blocked.up();
        if stage == Stage::Rcpt {
            self.mx.counters.rcpts.up();
            if self.mx.config.blocked.is_some_and(|blocked| refusals <= blocked.vague) {
                return self.refuse(
                    out,
                    550,
                    "5.1.1",
                    format_args!("Recipient address rejected: User unknown"),
                );
            }
        }
        let peer = self.peer;
        let text = format_args!("Service unavailable; Client host [{peer}] blocked using zen.sandbox.test");
        self.refuse(out, 554, "5.7.1", text);
        if stage == Stage::Connect { Step::Close } else { Step::Next }
    }

    fn refused(&mut self, stage: Stage) -> Step {
        if stage == Stage::Rcpt {
            self.mx.counters.rcpts.up();
        }
        self.count_error();
        if stage == Stage::Connect { Step::Close } else { Step::Next }
    }
}
