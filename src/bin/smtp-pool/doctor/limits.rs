//! Checks how many connections the system allows.

use std::fs;

use super::finding::Finding;

/// Each connection is an open file. A limit below the first number is a failure, below the second a warning.
const MIN_FILES: [u64; 2] = [256, 4096];
/// A range with fewer local ports is a warning. A closed connection keeps its port for 60 s.
const MIN_PORTS: u64 = 10_000;

pub(super) fn check() -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    vec![files(&read("/proc/self/limits")), ports(&read("/proc/sys/net/ipv4/ip_local_port_range"))]
}

/// Checks the limit of open files: `Max open files            1024                 1048576              files`
fn files(limits: &str) -> Finding {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let number = match soft {
        Some("unlimited") => u64::MAX,
        Some(text) => text.parse().unwrap_or(0),
        None => return Finding::unknown("files", "this system does not show its limit of open files"),
    };
    let detail = format!("at most {} files may be open at once", soft.unwrap_or_default());
    let advice = "raise the limit with `ulimit -n 65536`, or with LimitNOFILE= in a systemd service";
    match number {
        n if n < MIN_FILES[0] => Finding::failed("files", detail).advise(advice),
        n if n < MIN_FILES[1] => Finding::warning("files", detail).advise(advice),
        _ => Finding::ok("files", detail),
    }
}

/// Checks the range of local ports: two numbers with a tab between them.
fn ports(range: &str) -> Finding {
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u64>().ok());
    let (Some(first), Some(last)) = (ends.next(), ends.next()) else {
        return Finding::unknown("ports", "this system does not show its range of local ports");
    };
    let count = last.saturating_sub(first) + 1;
    let detail = format!("each local address has {count} ports for connections, {first} to {last}");
    if count < MIN_PORTS {
        Finding::warning("ports", detail)
            .advise("widen the range: sysctl net.ipv4.ip_local_port_range='10240 65535'")
    } else {
        Finding::ok("ports", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::CheckState, *};

    #[test]
    fn limits_are_high_enough_or_not() {
        let files = |soft: &str| {
            files(&format!("Limit  Soft  Hard  Units\nMax open files            {soft}                 1048576              files\n"))
                .state
        };
        assert_eq!(files("64"), CheckState::Failed);
        assert_eq!(files("1024"), CheckState::Warning);
        assert_eq!(files("65536"), CheckState::Ok);
        assert_eq!(files("unlimited"), CheckState::Ok);
        assert_eq!(super::files("").state, CheckState::Unknown);
    }

    #[test]
    fn ports_are_enough_or_not() {
        assert_eq!(ports("32768\t60999\n").state, CheckState::Ok);
        assert_eq!(ports("60000 60999").state, CheckState::Warning);
        assert_eq!(ports("").state, CheckState::Unknown);
    }
}
