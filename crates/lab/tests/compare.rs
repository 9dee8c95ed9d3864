//! Golden tests of comparisons of synthetic results, and tests of the results folder. After an intended
//! change: `BLESS=1 cargo test --test compare`, then review the difference before committing it.

#[path = "../../analysis/tests/support/mod.rs"]
mod support;

use overlay_trace_analysis::breakdown::{Analysis, By};

use overlay_trace_lab::compare::{
    self, CheckedClaim, Comparison, Conditions, Cpu, Folder, LabResult, Machine, Measure, Measured, Outcome,
    Plan, Run, Stages, Verdict,
};

use overlay_trace_format::Recording;

use overlay_trace_lab::traffic::TrafficReport;
use overlay_trace_test_support::golden::check;
use serde_json::{Value, json};
use tempfile::TempDir;

fn conditions() -> Conditions {
    Conditions {
        plan: "quick".into(),
        runs: vec!["udp-rr: 500 per second for 2s".into()],
        kernel: "6.12.48-amd64".into(),
        cpus: 2,
        probes: "auto".into(),
        overlay_trace: "0.1.0".into(),
    }
}

fn traffic(kind: &str, protocol: &str, slow: f64, more: Value) -> TrafficReport {
    let latency = |ns: f64| (ns * slow) as u64;
    let mut report = json!({
        "kind": kind, "protocol": protocol, "from": "10.244.1.2:40000", "to": "10.244.2.2:7700",
        "connections": 1, "request_bytes": 100, "answer_bytes": 350, "start_ns": 1, "duration_ns": 2_000_000_000u64,
        "offered_per_s": null, "sent": 0, "unsent": 0, "received": 0, "lost": 0, "duplicates": 0,
        "out_of_order": 0, "bytes": 0, "throughput_bits_per_s": 0.0, "latency": null, "lateness": null,
        "jitter_ns": null, "retransmits": null
    });
    if kind == "rr" {
        report["latency"] = json!({
            "count": 2000, "mean": 51_000.0 * slow, "p50": latency(48e3), "p90": latency(60e3), "p99": latency(90e3),
            "p999": latency(300e3), "p9999": latency(700e3), "p99999": latency(700e3), "max": latency(710e3)
        });
    }
    for (key, value) in more.as_object().unwrap() {
        report[key] = value.clone();
    }
    serde_json::from_value(report).unwrap()
}

/// A lab whose times are those of the host multiplied by `slow`.
fn measured(encapsulated: bool, slow: f64, notes: &[&str]) -> Measured {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.otr");
    support::write(&path, encapsulated, true);
    let analysis = Analysis::of(&Recording::open(&path).unwrap(), By::Anywhere).unwrap();
    let ms = |ms: f64| (ms * slow) as u64 * 1_000_000;
    let cpu = Cpu { busy_ns: ms(120.0), interrupts_ns: ms(40.0), kernel_ns: ms(5.0), own_ns: ms(70.0) };
    let counts = json!({"offered_per_s": 1000.0, "sent": 2000, "received": 1990, "lost": 10});
    let stream = json!({"offered_per_s": 2000.0, "sent": 2000, "received": 2000, "jitter_ns": 7300, "throughput_bits_per_s": 1.6e6});
    let bulk = json!({"throughput_bits_per_s": 3.0e9 / slow, "retransmits": 3});
    let runs = [
        ("udp-rr", traffic("rr", "udp", slow, counts)),
        ("udp-stream", traffic("stream", "udp", slow, stream)),
        ("tcp-bulk", traffic("bulk", "tcp", slow, bulk)),
    ];
    Measured {
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
        runs: runs.into_iter().map(|(name, traffic)| run(name, traffic, cpu)).collect(),
        stages: Stages::of(&analysis),
        took_s: 12.5,
    }
}

fn run(name: &str, traffic: TrafficReport, cpu: Cpu) -> Run {
    let median = traffic.throughput_bits_per_s;
    let throughputs =
        if name == "tcp-bulk" { vec![0.97 * median, median, 1.02 * median] } else { vec![median] };
    Run { name: name.into(), traffic, throughputs, cpu }
}

fn result(lab: &str, outcome: Outcome) -> LabResult {
    LabResult { lab: lab.into(), about: format!("What {lab} is."), conditions: conditions(), outcome }
}

fn comparison() -> Comparison {
    let measured =
        |encapsulated, slow, notes| Outcome::Measured(Box::new(measured(encapsulated, slow, notes)));
    let results = vec![
        result("host", measured(false, 1.0, &[])),
        result("flannel-vxlan", measured(true, 1.75, &["this system has no IPv6"])),
        result("calico-ipip", Outcome::Unavailable("this kernel has no devices of the kind ipip".into())),
        result("weave-sleeve", Outcome::Failed("the server <pod2> & its port do not answer".into())),
    ];
    Comparison::new(Plan::find("quick").unwrap(), 0.5, results)
}

#[test]
fn every_output_format() {
    let comparison = comparison();
    check("compare.txt", compare::text(&comparison).as_bytes());
    check("compare.json", &compare::json(&comparison).unwrap());
    check("compare.csv", &compare::csv(&comparison).unwrap());
    check("compare.html", compare::page(&comparison).as_bytes());
}

#[test]
fn levels_and_layers_of_a_lab_add_up() {
    for row in comparison().rows {
        let sums = &row.per_packet;
        let levels = sums.socket_wait_ns + sums.levels_ns.iter().sum::<f64>();
        let layers = sums.socket_wait_ns + sums.layers_ns.iter().map(|(_, ns)| ns).sum::<f64>();
        for sum in [levels, layers] {
            assert!((sum - sums.whole_ns).abs() < 1e-6 * sums.whole_ns, "{}: {sum}", row.lab);
        }
        let raw: u64 = row.measured.stages.rows.iter().map(|time| time.raw_ns).sum();
        assert_eq!(raw, row.measured.stages.sum_ns, "{}", row.lab);
    }
}

#[test]
fn throughput_is_a_share_of_the_hosts() {
    let shares: Vec<f64> =
        comparison().rows.iter().map(|row| row.throughput_share.unwrap_or_default()).collect();
    assert_eq!(shares[0], 1.0);
    assert!((shares[1] - 1.0 / 1.75).abs() < 1e-9);
}

#[test]
fn the_page_is_self_contained_and_escapes_html() {
    let page = compare::page(&comparison());
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!outside.contains(word), "{word}");
    }
    assert!(page.contains("&lt;pod2&gt; &amp; its port") && !page.contains("<pod2>"));
}

#[test]
fn a_folder_returns_results_of_the_same_conditions() {
    let dir = TempDir::new().unwrap();
    let folder = Folder::open(dir.path(), "quick").unwrap();
    let kept = result("host", Outcome::Measured(Box::new(measured(false, 1.0, &[]))));
    folder.keep(&kept).unwrap();
    assert_eq!(folder.result("host", &conditions()), Some(kept));
    let other = Conditions { kernel: "6.1".into(), ..conditions() };
    assert_eq!(folder.result("host", &other), None);
    folder.keep(&result("failed", Outcome::Failed("why".into()))).unwrap();
    assert_eq!(folder.result("failed", &conditions()), None);
    folder.write("host.json", b"{\"lab\": \"host\"").unwrap();
    assert_eq!(folder.result("host", &conditions()), None);
    let machine = Machine { packets_per_s: 5.5, requests_per_s: 7.25 };
    assert_eq!(folder.machine(), None);
    folder.keep_machine(&machine).unwrap();
    assert_eq!(folder.machine(), Some(machine));
}

#[test]
fn published_claims_are_checked() {
    let labs = [("host", 1.0), ("flannel-host-gw", 1.1), ("flannel-vxlan", 1.75), ("calico-ipip", 2.0)];
    let quick = labs.map(|(lab, slow)| {
        result(lab, Outcome::Measured(Box::new(measured(lab.contains("vxlan"), slow, &[]))))
    });
    let mut jumbo = measured(true, 1.0, &[]);
    jumbo.runs.retain(|run| run.name == "tcp-bulk");
    jumbo.runs.push(jumbo.runs[0].clone());
    for (run, (mtu, bits_per_s)) in jumbo.runs.iter_mut().zip([(1400, 1e9), (3000, 2e9)]) {
        run.name += &format!(" MTU {mtu}");
        run.traffic.throughput_bits_per_s = bits_per_s;
        run.throughputs = vec![bits_per_s];
    }
    let jumbo = vec![result("flannel-vxlan", Outcome::Measured(Box::new(jumbo)))];
    let quick = Comparison::new(Plan::find("quick").unwrap(), 1.0, quick.into());
    let mtu = Comparison::new(Plan::find("seed-mtu").unwrap(), 1.0, jumbo);
    let checked = compare::check(&quick, &mtu);
    let verdict = |better: &str, worse: &str, measure| {
        let claim = |checked: &&CheckedClaim| {
            let claim = checked.claim;
            (claim.better.lab, claim.worse.lab, claim.measure) == (better, worse, measure)
        };
        checked.iter().find(claim).unwrap().verdict
    };
    let throughput = Measure::Throughput;
    assert_eq!(verdict("flannel-host-gw", "flannel-vxlan", throughput), Verdict::Agrees);
    assert_eq!(verdict("calico-ipip", "flannel-vxlan", throughput), Verdict::Disagrees);
    assert_eq!(verdict("flannel-vxlan", "flannel-vxlan", throughput), Verdict::Agrees);
    assert_eq!(verdict("calico-bgp", "calico-ipip", throughput), Verdict::NotMeasured);
    check("reproduce.txt", compare::checked_claims_text(&checked).as_bytes());
}
