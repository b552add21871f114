//! Records as they come, or in the order of the rows; nothing is kept.

mod rows;

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Instant};

use smtp_pool::{
    job::input::{Rows, Tracker},
    verify::{Record, Records},
};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

use self::rows::UnderWay;
use super::{
    context::{TICK, Tools, blocked, tell_of_silence},
    serve::Server,
};
use crate::{
    exit::{Exit, Failure, Result},
    output::{Line, Output, Target, Written},
    progress::Frame,
    stop,
    summary::{Refusals, Tally, tables},
};

pub(super) async fn run(
    tools: Tools,
    rows: Rows,
    keep_order: bool,
    target: &Target,
    server: &Server,
) -> Result<Exit> {
    let Tools { verifier, metrics, screen, quiet, .. } = &tools;
    let tracker = rows.tracker();
    let output = target.open(rows.shapes())?;
    let started = Instant::now();
    let under_way = Arc::new(UnderWay::new(keep_order));
    let _closed = under_way.closed();
    let mut records = verifier.verify_all(rows::addresses(rows, Arc::clone(&under_way)));
    let mut stream = Stream {
        output,
        under_way,
        tally: Tally::default(),
        next: 0,
        waiting: keep_order.then(BTreeMap::new),
    };

    let ended = stream.pump(&mut records, &tracker, |frame| {
        screen.show(frame, false);
        server.update(frame);
    });
    let ended = ended.await;
    screen.show(&stream.frame(&records, &tracker), true);
    screen.clear();
    let ended = ended?;
    // What waited for a row that will not come any more.
    let ended = match stream.rest()? {
        Written::Yes => ended,
        Written::Enough => Ended::Enough,
    };
    let Stream { output, tally, .. } = stream;
    let ended = match output.finish()? {
        Written::Yes => ended,
        Written::Enough => Ended::Enough,
    };
    if ended == Ended::Enough {
        return Ok(Exit::Done);
    }
    match tracker.unreported() {
        0 => {}
        more => screen.say(format_args!("and {more} more rows that are no addresses")),
    }
    if !*quiet && tally.total() > 0 {
        screen.say_lines(tables(&tally, tally.total(), &metrics.snapshot(), started.elapsed()));
        tell_of_silence(&tally, screen);
    }
    tools.say_notes(records.lanes().snapshot().iter().map(|lane| Refusals {
        lane: &lane.name,
        sender_refusals: lane.sender_refusals,
        harvest_defences: lane.harvest_defences,
    }));
    if ended == Ended::Stopped {
        let (rows, done) = (tracker.rows(), tally.total());
        screen.say(format_args!(
            "interrupted: {done} records written, {} rows under way lost",
            rows.saturating_sub(done)
        ));
        return Ok(Exit::Interrupted);
    }
    match tracker.failure() {
        Some(failure) => Err(failure.into()),
        None if tracker.rows() == tally.total() => Ok(blocked(&records.lanes().snapshot(), screen)),
        None => Err(Failure::failed(format_args!(
            "{} rows went in and {} records came out; this is a bug",
            tracker.rows(),
            tally.total()
        ))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Every address has its record.
    All,
    /// By the user.
    Stopped,
    /// Nobody reads any more.
    Enough,
}

struct Stream {
    output: Output,
    under_way: Arc<UnderWay>,
    tally: Tally,
    /// The number of the row whose turn it is.
    next: u64,
    /// Records whose turn has not come, if there are turns.
    waiting: Option<BTreeMap<u64, Record>>,
}

impl Stream {
    async fn pump(
        &mut self,
        records: &mut Records,
        tracker: &Tracker,
        show: impl Fn(&Frame),
    ) -> Result<Ended> {
        let mut stopped = pin!(stop::requested());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let written = select! {
                biased;
                () = &mut stopped => return Ok(Ended::Stopped),
                _ = tick.tick() => {
                    show(&self.frame(records, tracker));
                    self.output.flush()?
                }
                record = records.next_numbered() => match record {
                    Some((number, record)) => self.take(number, record)?,
                    None => return Ok(Ended::All),
                },
            };
            if written == Written::Enough {
                return Ok(Ended::Enough);
            }
        }
    }

    fn frame(&self, records: &Records, tracker: &Tracker) -> Frame {
        Frame {
            verdicts: self.tally.verdicts(),
            postponed: 0,
            total: tracker.total(),
            lanes: records.lanes().snapshot(),
        }
    }

    fn take(&mut self, number: u64, record: Record) -> Result<Written> {
        let Some(waiting) = &mut self.waiting else { return self.write(number, &record) };
        waiting.insert(number, record);
        while let Some(record) = self.waiting.as_mut().and_then(|waiting| waiting.remove(&self.next)) {
            if self.write(self.next, &record)? == Written::Enough {
                return Ok(Written::Enough);
            }
            self.next += 1;
        }
        Ok(Written::Yes)
    }

    fn rest(&mut self) -> Result<Written> {
        for (number, record) in self.waiting.take().unwrap_or_default() {
            if self.write(number, &record)? == Written::Enough {
                return Ok(Written::Enough);
            }
        }
        Ok(Written::Yes)
    }

    fn write(&mut self, number: u64, record: &Record) -> Result<Written> {
        self.tally.add(record);
        let (source, written) = self.under_way.take(number);
        self.output.write(&Line::new(record, source, &written))
    }
}
