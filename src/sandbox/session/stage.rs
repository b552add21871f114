//! Replaces or changes the answer at a stage: faults, the tarpit, the blocklist.

use std::{mem, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    ServerSession, Step,
    phase::{MessageBody, Phase},
};
use crate::{
    proto::Mailbox,
    sandbox::{Does, FaultStage, fault, transport::ReplyTiming},
};

/// The time that [`Does::Swap`] waits for another reply.
const SWAP_WAIT: Duration = Duration::from_millis(50);

impl ServerSession {
    /// Runs `execute`, unless the host does something else at this stage. For RCPT, `to` is the recipient.
    pub(super) fn answer(
        &mut self,
        stage: FaultStage,
        to: Option<&Mailbox>,
        out: &mut BytesMut,
        execute: impl FnOnce(&mut Self, &mut BytesMut) -> Step,
    ) -> Step {
        self.slow |= self.mx.config.tarpit.is_some_and(|tarpit| tarpit.from.covers(stage));
        if self.is_blocked(stage) {
            return self.refuse_blocked(stage, out);
        }
        let Some(does) = self.fault(stage, to) else { return execute(self, out) };
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
            Does::Reset => return Step::Reset,
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
            Does::Surplus { text, after } => {
                let step = execute(self, out);
                let surplus = match text {
                    Some(text) => Bytes::from(text + "\r\n"),
                    None => Bytes::copy_from_slice(&out[start..]),
                };
                match after.is_zero() {
                    true => out.put(surplus),
                    false => self.timing.late.push((after, surplus)),
                }
                return step;
            }
            Does::Swap => {
                let step = execute(self, out);
                // The last reply before the end or TLS cannot be swapped.
                if step == Step::Next {
                    self.held = Some(out.split_off(start).freeze());
                }
                return step;
            }
            Does::Split(pause) => {
                let step = execute(self, out);
                self.timing.cuts.extend(cuts(&out[start..]).map(|cut| (start + cut, pause)));
                return step;
            }
            Does::Reply(text) => {
                let step = match text.as_bytes() {
                    [b'3', b'5', b'4', ..] if stage == FaultStage::Data => {
                        self.phase = Phase::Body(MessageBody::data());
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

    /// Returns the fault at this stage, this time.
    pub(in crate::sandbox) fn fault(&mut self, stage: FaultStage, to: Option<&Mailbox>) -> Option<Does> {
        let mut happens = None;
        for (fault, count) in self.mx.config.faults.iter().zip(&mut self.counts) {
            if fault.concerns(stage, to) {
                *count += 1;
                happens = happens.or_else(|| fault.happens(*count).then_some(fault));
            }
        }
        let fault = happens?;
        tracing::debug!(host = self.mx.config.name, ?stage, does = ?fault.does, "fault");
        Some(fault.does.clone())
    }

    /// Appends the held reply after the one that was added since `start`, if there is one.
    pub(super) fn release(&mut self, held: Bytes, start: usize, step: Step, out: &mut BytesMut) {
        match self.held.take() {
            // It is held too. It is the later one, so it is sent first.
            Some(later) => out.put(later),
            None if out.len() == start && step == Step::Read => {
                self.timing.late.push((SWAP_WAIT.into(), held));
                return;
            }
            None if out.len() == start && matches!(step, Step::Next | Step::Pause(_)) => {
                self.held = Some(held);
                return;
            }
            None => {}
        }
        out.put(held);
    }

    /// Returns the timing of the replies that the last step has appended.
    pub(in crate::sandbox) fn take_timing(&mut self) -> ReplyTiming {
        mem::take(&mut self.timing)
    }

    fn is_blocked(&self, stage: FaultStage) -> bool {
        let counters = &self.mx.counters;
        self.mx
            .config
            .blocked
            .is_some_and(|blocked| blocked.at.covers(stage) && counters.rcpts.get() >= blocked.after)
    }

    fn refuse_blocked(&mut self, stage: FaultStage, out: &mut BytesMut) -> Step {
        let refusals = self.mx.counters.blocked.increment();
        if stage == FaultStage::Rcpt {
            self.mx.counters.rcpts.increment();
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
        if stage == FaultStage::Connect { Step::Close } else { Step::Next }
    }

    fn refused(&mut self, stage: FaultStage) -> Step {
        if stage == FaultStage::Rcpt {
            self.mx.counters.rcpts.increment();
        }
        self.count_error();
        if stage == FaultStage::Connect { Step::Close } else { Step::Next }
    }
}

/// Returns the cuts of [`Does::Split`]: in the middle of each line, between CR and LF, and between lines.
fn cuts(reply: &[u8]) -> impl Iterator<Item = usize> {
    let mut start = 0;
    reply
        .split_inclusive(|&octet| octet == b'\n')
        .flat_map(move |line| {
            let end = start + line.len();
            let cuts = [start + line.len() / 2, end - 1, end];
            start = end;
            cuts
        })
        .filter(|&cut| cut < reply.len())
}
