//! Trims DNS answers before they enter the resolver's cache, which counts answers and not octets.
//!
//! A zone decides how many records it has, and an answer of 64 KB takes half a MiB of memory. Only eight exchangers of
//! a domain are tried, each with a few addresses. The cache stores no more than these need.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use hickory_resolver::{
    net::NetError,
    proto::{
        op::DnsResponse,
        rr::{RData, Record},
    },
};

/// Exchangers of a domain. One more than are tried, which shows that more exist.
const MAX_MX: usize = 9;
/// Addresses of a host, of one family.
const MAX_ADDRS: usize = 8;
/// Aliases (CNAME records) of an answer.
const MAX_ALIASES: usize = 8;

/// The answers of a connection to a nameserver, [trimmed](trimmed).
pub(super) struct TrimmedAnswers<S>(pub(super) S);

impl<S: Stream<Item = Result<DnsResponse, NetError>> + Unpin> Stream for TrimmedAnswers<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let next = Pin::new(&mut self.0).poll_next(context);
        next.map(|next| next.map(|answer| answer.map(trimmed)))
    }
}

/// Removes unused records from the answer. Aliases, the most preferred exchangers and the first addresses stay, in
/// their order. The SOA record stays too, because it shows that a name has no records.
fn trimmed(mut response: DnsResponse) -> DnsResponse {
    let asked = response.queries.first().map(|query| query.query_type());
    let (last, mut of_last) = last_preference(&response.answers);
    let (mut aliases, mut addrs) = (MAX_ALIASES, MAX_ADDRS);
    response.answers.retain(|record| {
        let left = match &record.data {
            RData::CNAME(_) => &mut aliases,
            _ if Some(record.record_type()) != asked => return false,
            RData::MX(mx) if mx.preference != last => return mx.preference < last,
            RData::MX(_) => &mut of_last,
            RData::A(_) | RData::AAAA(_) => &mut addrs,
            _ => return false,
        };
        let keep = *left > 0;
        *left = left.saturating_sub(1);
        keep
    });
    response.answers.shrink_to_fit();
    let soa = response.authorities.iter().find(|record| matches!(record.data, RData::SOA(_)));
    response.authorities = soa.cloned().into_iter().collect();
    response.additionals = Vec::new();
    response
}

/// Returns the preference of the last exchanger to keep, and how many of that preference to keep.
fn last_preference(answers: &[Record]) -> (u16, usize) {
    let preference = |record: &Record| match &record.data {
        RData::MX(mx) => Some(mx.preference),
        _ => None,
    };
    let mut preferences: Vec<u16> = answers.iter().filter_map(preference).collect();
    if preferences.len() <= MAX_MX {
        return (u16::MAX, MAX_MX);
    }
    let (before, last, _) = preferences.select_nth_unstable(MAX_MX - 1);
    (*last, MAX_MX - before.iter().filter(|preference| *preference < last).count())
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::{
        op::{Message, MessageType, OpCode, Query},
        rr::{
            Name, RecordType,
            rdata::{A, CNAME, MX, SOA, TXT},
        },
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(data: RData) -> Record {
        Record::from_rdata(name("a.test."), 300, data)
    }

    fn mx(preference: u16, host: &str) -> Record {
        record(RData::MX(MX::new(preference, name(host))))
    }

    fn answer(asked: RecordType, answers: Vec<Record>) -> DnsResponse {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name("a.test."), asked));
        message.add_answers(answers);
        DnsResponse::from_message(message).unwrap()
    }

    fn hosts(response: &DnsResponse) -> Vec<String> {
        let host = |record: &Record| match &record.data {
            RData::MX(mx) => mx.exchange.to_ascii(),
            _ => panic!("{record}"),
        };
        response.answers.iter().map(host).collect()
    }

    #[test]
    fn the_most_preferred_exchangers_are_kept() {
        // The most preferred come last, after many of the next preference.
        let many = (0..1_000).map(|n| mx(20, &format!("many{n}.test.")));
        let worse = (0..10).map(|n| mx(30, &format!("worse{n}.test.")));
        let best = (0..3).map(|n| mx(10, &format!("best{n}.test.")));
        let kept = trimmed(answer(RecordType::MX, worse.chain(many).chain(best).collect()));
        let wanted: Vec<_> = (0..6)
            .map(|n| format!("many{n}.test."))
            .chain((0..3).map(|n| format!("best{n}.test.")))
            .collect();
        assert_eq!(hosts(&kept), wanted);

        let few: Vec<_> = (0..9).map(|n| mx(90 - n, &format!("mx{n}.test."))).collect();
        assert_eq!(trimmed(answer(RecordType::MX, few.clone())).answers, few);
        let same: Vec<_> = (0..20).map(|n| mx(7, &format!("mx{n}.test."))).collect();
        assert_eq!(trimmed(answer(RecordType::MX, same.clone())).answers, same[..9]);
        assert!(trimmed(answer(RecordType::MX, Vec::new())).answers.is_empty());
    }

    #[test]
    fn addresses_follow_their_aliases_and_other_records_are_removed() {
        let address = |n: u8| record(RData::A(A::new(192, 0, 2, n)));
        let alias = record(RData::CNAME(CNAME(name("b.test."))));
        let text = record(RData::TXT(TXT::new(vec!["x".repeat(200); 100])));
        let mut long = answer(
            RecordType::A,
            [text.clone(), alias.clone()].into_iter().chain((0..100).map(address)).collect(),
        );
        let soa = SOA::new(name("ns.test."), name("x.test."), 1, 2, 3, 4, 5);
        long.authorities = vec![text.clone(), record(RData::SOA(soa.clone())), text.clone()];
        long.additionals = vec![text; 50];
        let kept = trimmed(long);
        assert_eq!(kept.answers, [alias].into_iter().chain((0..8).map(address)).collect::<Vec<_>>());
        assert_eq!((&kept.authorities[..], kept.additionals.len()), (&[record(RData::SOA(soa))][..], 0));
    }
}
