//! The options of a single call, and the recent verdicts that may answer it.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::HashMap;
use tokio::time::Instant;

use super::{Record, Status, facts::spelling::normal_form};
use crate::proto::Mailbox;

/// Recent verdicts that are remembered.
const MAX_VERDICTS: usize = 16_384;
/// The octets of their addresses and replies, 8 MiB.
const MAX_OCTETS: usize = 8 << 20;
/// The octets that an entry takes besides its texts, about.
const ENTRY_OCTETS: usize = 256;

/// The options of [`Verifier::verify_with`](super::Verifier::verify_with).
///
/// ```
/// use std::time::Duration;
/// use smtp_pool::verify::VerifyOptions;
/// // For a sign-up form: an answer within three seconds, and none older than an hour.
/// let options = VerifyOptions::new().deadline(Duration::from_secs(3)).max_age(Duration::from_secs(3600));
/// assert_eq!(options.deadline, Some(Duration::from_secs(3)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "options do nothing by themselves"]
pub struct VerifyOptions {
    /// The longest time for an answer. After it, the question is withdrawn, and the record is `unknown` with
    /// [`TimeoutExceeded`](super::SubStatus::TimeoutExceeded). The default is `None`: the deadlines of the connections
    /// apply, and the wait for the limits of the provider has no end.
    pub deadline: Option<Duration>,
    /// How old a verdict may be that an earlier call got. The default is `None`: the server is asked each time.
    ///
    /// The verifier remembers 16,384 conclusive verdicts of calls. The key is the
    /// [normal form](super::normal_form) of the address. An undeliverable verdict answers for the same spelling only.
    /// Verdicts on a server are forgotten once it turns out to block this client or to refuse existing mailboxes.
    pub max_age: Option<Duration>,
}

impl VerifyOptions {
    /// Returns the defaults: no deadline, and no earlier verdict.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`deadline`](Self::deadline).
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Sets [`max_age`](Self::max_age).
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age: Some(max_age), ..self }
    }
}

/// Recent conclusive verdicts, by the normal form of the address. The oldest leave first.
#[derive(Debug, Default)]
pub(super) struct RecentVerdicts(Mutex<VerdictTable>);

#[derive(Debug, Default)]
struct VerdictTable {
    verdicts: HashMap<Arc<str>, RecentVerdict>,
    /// The keys in the order of their verdicts, with the number of the verdict. Replaced ones stay until their turn.
    order: VecDeque<(u64, Arc<str>)>,
    next: u64,
    octets: usize,
}

#[derive(Debug)]
struct RecentVerdict {
    number: u64,
    at: Instant,
    record: Record,
}

impl RecentVerdict {
    fn octets(&self) -> usize {
        ENTRY_OCTETS
            + 2 * self.record.address.len()
            + self.record.reply.as_ref().map_or(0, |reply| reply.len())
    }
}

impl RecentVerdicts {
    /// Returns a verdict on the address that is at most `max_age` old. The record has the address as given.
    pub(super) fn get(&self, address: &str, max_age: Duration, now: Instant) -> Option<Record> {
        let mailbox = Mailbox::parse(address).ok()?;
        let table = self.lock();
        let RecentVerdict { at, record, .. } = table.verdicts.get(&*normal_form(&mailbox))?;
        let is_recent = now.saturating_duration_since(*at) <= max_age;
        // Another spelling may be another mailbox. A mailbox must not be refused for that.
        let answers = record.status != Status::Undeliverable
            || Mailbox::parse(&record.address).is_ok_and(|known| known == mailbox);
        (is_recent && answers).then(|| Record { address: address.to_owned(), ..record.clone() })
    }

    /// Adds a verdict, unless it is inconclusive.
    pub(super) fn add(&self, record: &Record, now: Instant) {
        if record.status == Status::Unknown || record.attempts == 0 {
            return;
        }
        let Ok(mailbox) = Mailbox::parse(&record.address) else { return };
        let key: Arc<str> = normal_form(&mailbox).into();
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.remove(&key);
        let verdict = RecentVerdict { number, at: now, record: record.clone() };
        table.octets += verdict.octets();
        table.verdicts.insert(Arc::clone(&key), verdict);
        table.order.push_back((number, key));
        table.shrink();
    }

    /// Forgets the verdicts on mailboxes at these servers, because their answers are doubtful.
    pub(super) fn forget(&self, hosts: &HashSet<Arc<str>>) {
        let mut table = self.lock();
        let is_doubtful = |verdict: &RecentVerdict| {
            verdict.record.mx_host.as_ref().is_some_and(|host| hosts.contains(host))
        };
        let doubtful: Vec<_> = table
            .verdicts
            .iter()
            .filter(|(_, verdict)| is_doubtful(verdict))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        doubtful.iter().for_each(|key| table.remove(key));
    }

    fn lock(&self) -> MutexGuard<'_, VerdictTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerdictTable {
    fn remove(&mut self, key: &str) {
        if let Some(verdict) = self.verdicts.remove(key) {
            self.octets -= verdict.octets();
        }
    }

    /// Forgets the oldest verdicts beyond the limits.
    fn shrink(&mut self) {
        while self.octets > MAX_OCTETS || self.order.len() > MAX_VERDICTS {
            let Some((number, key)) = self.order.pop_front() else { break };
            if self.verdicts.get(&key).is_some_and(|verdict| verdict.number == number) {
                self.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::verify::{CatchAll, SubStatus};

    fn record(address: &str, sub_status: SubStatus) -> Record {
        Record {
            address: address.to_owned(),
            status: sub_status.status(),
            sub_status,
            blame: None,
            catch_all: CatchAll::NotRun,
            role: false,
            disposable: false,
            free: false,
            mx_host: Some("mx.test".into()),
            smtp_code: None,
            enhanced_code: None,
            reply: None,
            attempts: 1,
            tls: None,
            duration_ms: 0,
            checked_at: Timestamp::UNIX_EPOCH,
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn only_conclusive_verdicts_of_the_right_age_answer() {
        let (recent, now) = (RecentVerdicts::default(), Instant::now());
        recent.add(&record("ann@a.test", SubStatus::Accepted), now);
        recent.add(&record("bob@a.test", SubStatus::Greylisted), now);
        recent.add(&Record { attempts: 0, ..record("eve@a.test", SubStatus::NoDnsEntries) }, now);
        let found = |address, passed| recent.get(address, HOUR, now + passed).map(|record| record.address);
        assert_eq!(found("ann@a.test", HOUR).as_deref(), Some("ann@a.test"));
        assert_eq!(found("ann@a.test", HOUR + Duration::from_secs(1)), None, "too old");
        assert_eq!(found("bob@a.test", Duration::ZERO), None, "unknown");
        assert_eq!(found("eve@a.test", Duration::ZERO), None, "no server was asked");
        assert_eq!(found("not an address", Duration::ZERO), None);
    }

    #[test]
    fn another_spelling_is_answered_only_if_the_mailbox_exists() {
        let (recent, now) = (RecentVerdicts::default(), Instant::now());
        recent.add(&record("Ann@a.test", SubStatus::Accepted), now);
        recent.add(&record("Bob@a.test", SubStatus::MailboxNotFound), now);
        let found = |address| recent.get(address, HOUR, now).map(|record| record.address);
        assert_eq!(found("ann@A.test").as_deref(), Some("ann@A.test"));
        assert_eq!(found("Bob@A.test").as_deref(), Some("Bob@A.test"));
        assert_eq!(found("bob@a.test"), None);
        recent.forget(&HashSet::from(["other.test".into()]));
        assert!(found("Ann@a.test").is_some());
        recent.forget(&HashSet::from(["mx.test".into()]));
        assert!(found("Ann@a.test").is_none() && recent.lock().octets == 0);
    }

    #[test]
    fn the_oldest_leave_beyond_the_limits() {
        let (recent, now) = (RecentVerdicts::default(), Instant::now());
        for n in 0..MAX_VERDICTS + 10 {
            recent.add(&record(&format!("u{n}@a.test"), SubStatus::Accepted), now);
        }
        assert_eq!(recent.lock().verdicts.len(), MAX_VERDICTS);
        assert!(
            recent.get("u9@a.test", HOUR, now).is_none() && recent.get("u10@a.test", HOUR, now).is_some()
        );
        // Replaced verdicts take no place for long.
        (0..2 * MAX_VERDICTS).for_each(|_| recent.add(&record("ann@a.test", SubStatus::Accepted), now));
        let table = recent.lock();
        assert!(table.verdicts.len() == 1 && table.order.len() <= MAX_VERDICTS);
        assert_eq!(table.octets, table.verdicts["ann@a.test"].octets());
        drop(table);
        let long = Record { reply: Some("x".repeat(1_024).into()), ..record("", SubStatus::Accepted) };
        (0..MAX_VERDICTS)
            .for_each(|n| recent.add(&Record { address: format!("v{n}@a.test"), ..long.clone() }, now));
        assert!(recent.lock().octets <= MAX_OCTETS);
    }
}
