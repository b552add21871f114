//! Checks the clock, which retries, greylisting and certificates depend on. It asks one SNTP question (RFC 4330).

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{net::UdpSocket, time::timeout};

use super::{finding::Finding, plan::DoctorPlan};

/// Seconds from 1900, the epoch of NTP, to 1970.
const TO_UNIX: f64 = 2_208_988_800.0;
/// Seconds in an era of NTP. The highest bit of a time stamp is set until 2036, when the next era begins (3).
const ERA: f64 = 4_294_967_296.0;
/// Up to this many seconds the clock counts as right.
const MAX_GOOD_OFFSET: f64 = 2.0;
/// From this many seconds on, certificates may seem expired or not yet valid.
const MIN_BAD_OFFSET: f64 = 300.0;

pub(super) async fn check(plan: &DoctorPlan) -> Finding {
    let (host, port) = &plan.ntp;
    match offset(plan, host, *port).await {
        Err(error) => Finding::unknown("clock", format_args!("{host}:{port}: {error}"))
            .advise("name a time server that answers with --ntp"),
        Ok(offset) => judge(offset),
    }
}

fn judge(offset: f64) -> Finding {
    let by =
        format!("{:.3} s {} the time server", offset.abs(), if offset > 0.0 { "behind" } else { "ahead of" });
    let advice = "run a time service, such as chrony or systemd-timesyncd";
    match offset.abs() {
        off if off <= MAX_GOOD_OFFSET => Finding::ok("clock", by),
        off if off <= MIN_BAD_OFFSET => Finding::warning("clock", by).advise(advice),
        _ => Finding::failed("clock", by).advise(advice),
    }
}

/// Returns by how many seconds our clock is behind. A negative number means that it is ahead.
async fn offset(plan: &DoctorPlan, host: &str, port: u16) -> Result<f64, String> {
    let ips = plan.dns.addresses(host).await?;
    let Some(&ip) = ips.first() else { return Err("no such host".into()) };
    let ask = async {
        let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(SocketAddr::new(ip, port)).await?;
        let sent = SystemTime::now();
        let question = question(sent);
        socket.send(&question).await?;
        let mut answer = [0; 128];
        loop {
            let read = socket.recv(&mut answer).await?;
            // An answer to another question is skipped.
            if read >= 48 && answer[24..32] == question[40..48] {
                break std::io::Result::Ok((sent, SystemTime::now(), answer));
            }
        }
    };
    let answered = timeout(plan.timeout, ask).await.map_err(|_| "no answer in time".to_owned())?;
    let (sent, received, answer) = answered.map_err(|error| error.to_string())?;
    // Stratum 0 is a refusal. A leap indicator of 3 means that the clock of the server is not set (4, 8).
    if answer[1] == 0 || answer[0] >> 6 == 3 {
        return Err("the time server's own clock is not set".into());
    }
    let (theirs_in, theirs_out) = (stamp(&answer[32..40]), stamp(&answer[40..48]));
    Ok(((theirs_in - unix(sent)) + (theirs_out - unix(received))) / 2.0)
}

/// Returns a request of version 4, mode client. The answer repeats our time, which identifies it.
fn question(now: SystemTime) -> [u8; 48] {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut question = [0; 48];
    question[0] = 0b00_100_011;
    question[40..44].copy_from_slice(&(since.as_secs() as u32).wrapping_add(TO_UNIX as u32).to_be_bytes());
    question[44..48].copy_from_slice(&since.subsec_nanos().to_be_bytes());
    question
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Returns the seconds since 1970 of a time stamp: 32 bits of seconds, 32 bits of their fraction.
fn stamp(octets: &[u8]) -> f64 {
    let number = |octets: &[u8]| f64::from(octets.iter().fold(0_u32, |n, &octet| n << 8 | u32::from(octet)));
    let (seconds, fraction) = (number(&octets[..4]), number(&octets[4..8]));
    let era = if octets[0] < 0x80 { ERA } else { 0.0 };
    seconds + era + fraction / ERA - TO_UNIX
}

#[cfg(test)]
mod tests {
    use super::{super::finding::CheckState, *};

    #[test]
    fn time_stamps_go_on_after_2036() {
        assert_eq!(stamp(&[0x83, 0xAA, 0x7E, 0x80, 0x80, 0, 0, 0]), 0.5);
        // 2036-02-07T06:28:16Z
        assert_eq!(stamp(&[0; 8]), 2_085_978_496.0);
        let asked = question(UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(stamp(&asked[40..48]).floor(), 1.0);
    }

    #[test]
    fn a_clock_may_be_a_little_off() {
        assert_eq!(judge(-0.5).state, CheckState::Ok);
        assert_eq!(judge(60.0).state, CheckState::Warning);
        assert_eq!(judge(-4000.0).state, CheckState::Failed);
    }
}
