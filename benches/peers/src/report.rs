//! Writes `target/bench-report.md` from the results of criterion: medians, and ratios to the bound and to the best
//! peer. It also names the machine, the versions, and the commands of the measurement. `just bench` runs it last.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a tool of the benchmarks a panic is the report"
)]

use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Names that are no peer: ours and the bounds.
const OURS: [&str; 3] = ["smtp-pool", "session", "verifier"];
const BOUNDS: [&str; 2] = ["bound", "one memcpy"];

/// The tables in `target/` that benchmarks write themselves.
const TABLES: [(&str, &str); 3] = [
    ("verify-cpu.md", "verify: rate and CPU"),
    ("verify-by-turns.md", "verify: CPU per address over one connection, by turns"),
    ("codec-by-turns.md", "codec: by turns"),
];

struct Row {
    name: String,
    /// Nanoseconds per element.
    median: f64,
    low: f64,
    high: f64,
}

fn main() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let criterion =
        env::var_os("CRITERION_HOME").map_or_else(|| root.join("target/criterion"), PathBuf::from);
    let mut text = format!("# Benchmarks\n\n{}\n", machine(&root));
    text.push_str("Measured by\n\n```sh\njust bench\n```\n\nwhich runs\n\n```sh\n");
    env::args().skip(1).for_each(|command| writeln!(text, "{command}").unwrap());
    text.push_str(
        "```\n\nTimes are medians per element, with criterion's interval of 95 % confidence. What stands beside a \
         time is how many times the bound it is, and how many times as fast as the best peer. What each group \
         measures is in `benches/README.md`.\n",
    );
    for (group, rows) in groups(&criterion) {
        table(&mut text, &group, &rows);
    }
    for (file, title) in TABLES {
        if let Ok(table) = fs::read_to_string(root.join("target").join(file)) {
            write!(text, "\n## {title}\n\n{table}").unwrap();
        }
    }
    let path = root.join("target/bench-report.md");
    fs::write(&path, &text).unwrap();
    println!("{text}");
}

fn table(text: &mut String, group: &str, rows: &[Row]) {
    let bound = rows.iter().find(|row| row.name == "bound").map(|row| row.median);
    let is = |names: &[&str], row: &Row| names.contains(&row.name.split(',').next().unwrap());
    let peers = rows.iter().filter(|row| !is(&OURS, row) && !is(&BOUNDS, row));
    let best = peers.map(|row| row.median).min_by(f64::total_cmp);
    write!(text, "\n## {group}\n\n| | median | 95 % | of the bound | best peer's |\n|---|---|---|---|---|\n")
        .unwrap();
    for row in rows {
        let ratio = |of: Option<f64>| of.map_or_else(String::new, |of| format!("{of:.2}"));
        let to_bound = ratio(bound.map(|bound| row.median / bound));
        let to_peer = ratio(best.filter(|_| is(&OURS, row)).map(|best| best / row.median));
        let [median, low, high] = [row.median, row.low, row.high].map(time);
        writeln!(text, "| {} | {median} | {low} – {high} | {to_bound} | {to_peer} |", row.name).unwrap();
    }
}

/// Returns every group of criterion, its bound first, and then by time.
fn groups(criterion: &Path) -> BTreeMap<String, Vec<Row>> {
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for group in directories(criterion) {
        for function in directories(&group) {
            let read = |name: &str| -> Option<Value> {
                serde_json::from_slice(&fs::read(function.join("new").join(name)).ok()?).ok()
            };
            let (Some(benchmark), Some(estimates)) = (read("benchmark.json"), read("estimates.json")) else {
                continue;
            };
            let elements = benchmark["throughput"]["Elements"].as_f64().unwrap_or(1.0);
            let median = &estimates["median"];
            let nanos = |value: &Value| value.as_f64().unwrap() / elements;
            let row = Row {
                name: benchmark["function_id"].as_str().unwrap().to_owned(),
                median: nanos(&median["point_estimate"]),
                low: nanos(&median["confidence_interval"]["lower_bound"]),
                high: nanos(&median["confidence_interval"]["upper_bound"]),
            };
            groups.entry(benchmark["group_id"].as_str().unwrap().to_owned()).or_default().push(row);
        }
    }
    for rows in groups.values_mut() {
        rows.sort_by(|a, b| {
            (a.name != "bound").cmp(&(b.name != "bound")).then(a.median.total_cmp(&b.median))
        });
    }
    groups
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut directories: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    directories.sort();
    directories
}

fn time(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.1} ns"),
        ..1e6 => format!("{:.2} µs", nanos / 1e3),
        _ => format!("{:.2} ms", nanos / 1e6),
    }
}

fn machine(root: &Path) -> String {
    let output = |command: &str, args: &[&str]| {
        let output = Command::new(command).args(args).current_dir(root).output();
        output.map_or_else(
            |_| "unknown".into(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "| | |\n|---|---|\n| machine | {cores} cores of {}, Linux {} |\n| compiler | {} |\n| revision | {} |\n",
        model.trim_start_matches([':', '\t', ' ']),
        output("uname", &["-r"]),
        output("rustc", &["--version"]),
        output("git", &["describe", "--always", "--dirty"]),
    );
    let lock = fs::read_to_string(root.join("benches/peers/Cargo.lock")).unwrap_or_default();
    let peers = ["smtp-proto", "lettre", "async-smtp", "mail-send", "bb8", "deadpool", "mobc"];
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    let versions: Vec<String> = peers.iter().filter_map(|name| version(name)).collect();
    writeln!(text, "| peers | {} |", versions.join(", ")).unwrap();
    text
}
