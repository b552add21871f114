use std::{sync::Arc, time::Duration};

use super::*;
use crate::metrics::{Gauges, Metrics};

const MS: Duration = Duration::from_millis(1);

fn text(metrics: &Metrics) -> String {
    metrics.snapshot().prometheus().to_string()
}

/// Returns the samples of a metric, in order.
fn samples<'a>(text: &'a str, metric: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{'))).collect()
}

#[test]
fn buckets_count_the_values_up_to_their_bound() {
    let metrics = Metrics::new();
    let server = metrics.server("a");
    // On a bound, just above it within the precision, between two, and above all.
    for micros in [100, 5_000, 5_010, 6_000, 86_400_000_000] {
        server.record(Operation::Rcpt, Duration::from_micros(micros));
    }
    let text = text(&metrics);
    let buckets: Vec<u64> = samples(&text, "smtp_operation_duration_seconds_bucket")
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(buckets, [vec![1; 5], vec![3; 1], vec![4; 14], vec![5; 1]].concat());
    assert!(text.contains(r#"{server="a",operation="rcpt",le="0.00025"} 1"#));
    assert!(text.contains(r#"{server="a",operation="rcpt",le="600"} 4"#));
    assert!(text.contains(r#"{server="a",operation="rcpt",le="+Inf"} 5"#));
    assert_eq!(
        samples(&text, "smtp_operation_duration_seconds_count"),
        [r#"smtp_operation_duration_seconds_count{server="a",operation="rcpt"} 5"#]
    );
    let sum = samples(&text, "smtp_operation_duration_seconds_sum")[0].rsplit_once(' ').unwrap().1;
    let sum: f64 = sum.parse().unwrap();
    assert!((sum - 86_400.016).abs() < 864.0, "{sum}");
}

#[test]
fn checkouts_without_a_wait_are_in_the_first_bucket_and_add_nothing() {
    let metrics = Metrics::new();
    (0..9).for_each(|_| metrics.server("a").checkout(Duration::ZERO));
    let text = text(&metrics);
    assert_eq!(
        samples(&text, "smtp_checkout_wait_seconds_sum"),
        [r#"smtp_checkout_wait_seconds_sum{server="a"} 0"#]
    );
    let bucket = r#"smtp_checkout_wait_seconds_bucket{server="a",le="0.0001"} 9"#;
    assert_eq!(samples(&text, "smtp_checkout_wait_seconds_bucket")[0], bucket);
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new();
    metrics.record_connection_error("a\\b\"c\nd", "}\n");
    let line = r#"smtp_connection_errors_total{server="a\\b\"c\nd",kind="}\n"} 1"#;
    assert_eq!(samples(&text(&metrics), "smtp_connection_errors_total"), [line]);
}

#[test]
fn states_are_samples_of_their_own() {
    struct Pool;
    impl Gauges for Pool {
        fn sizes(&self) -> Sizes {
            Sizes {
                idle: 3,
                active: 5,
                waiting: 1,
                max: 10,
                breaker: BreakerState::HalfOpen,
                ..Sizes::default()
            }
        }
    }
    let metrics = Metrics::new();
    metrics.server("b").connection_opened();
    let pool: Arc<dyn Gauges> = Arc::new(Pool);
    metrics.server("a").watch(Arc::downgrade(&pool));
    let text = text(&metrics);
    let values = |metric| {
        let samples = samples(&text, metric);
        samples.iter().map(|line| line.split_once('{').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        values("smtp_pool_connections"),
        [
            r#"server="a",state="idle"} 3"#,
            r#"server="a",state="active"} 5"#,
            r#"server="a",state="connecting"} 0"#,
            r#"server="a",state="waiting"} 1"#
        ]
    );
    assert_eq!(values("smtp_pool_max_connections"), [r#"server="a"} 10"#]);
    assert_eq!(
        values("smtp_breaker_state"),
        [
            r#"server="a",state="closed"} 0"#,
            r#"server="a",state="half_open"} 1"#,
            r#"server="a",state="open"} 0"#
        ]
    );
    assert_eq!(values("smtp_retries_total"), [r#"server="a"} 0"#, r#"server="b"} 0"#]);
}

#[test]
fn values_without_a_server_have_only_a_latency() {
    let metrics = Metrics::new();
    metrics.record(Operation::Dns, MS);
    let text = text(&metrics);
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.iter().all(|line| line.starts_with("smtp_operation_duration_seconds")), "{samples:?}");
    assert!(samples.contains(&r#"smtp_operation_duration_seconds_count{server="",operation="dns"} 1"#));
}
