use overlay_trace_analysis::breakdown::Dist;
use overlay_trace_monitor::Devices;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::*;
use crate::cmd::top::{draw::draw, keys::press};

fn tick() -> Aggregation {
    let mut aggregation = Aggregation::new(100, Devices::Names);
    let mut add = |stage: &str, layer: &str, kind, netns: &str, ns: u64| {
        let mut times = Dist::default();
        times.add_times(ns, 10);
        let labels = Labels {
            stage: stage.into(),
            layer: layer.into(),
            kind,
            level: "1".into(),
            netns: netns.into(),
            device: "eth0".into(),
            ..Labels::default()
        };
        aggregation.add_times(labels, &times, Duration::ZERO);
        aggregation.end_to_end.add_sum(times.sum());
    };
    add("vxlan-xmit", "vxlan", "work", "node1", 6_000);
    add("backlog-wait", "backlog", "wait", "node2", 3_000);
    add("ip-output", "ip", "work", "shop/web-0", 1_000);
    aggregation.end_to_end.add(10_000, 10);
    aggregation.latency.add(10_000, 10);
    aggregation
}

fn view() -> View {
    let mut view = View::new("node1, probe set full".into());
    let counters = Counters { lost_records: 2, ..Counters::default() };
    view.show(Picture::of(&[tick(), tick()], &counters, Duration::from_secs(7), false));
    view
}

fn screen(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    terminal.backend().to_string()
}

/// Presses keys; whether the last one ends the program.
fn keys(view: &mut View, keys: &str) -> bool {
    let press_char = |char| press(view, KeyEvent::new(KeyCode::Char(char), KeyModifiers::NONE));
    keys.chars().map(press_char).fold(false, |_, ends| ends)
}

fn names(view: &View) -> Vec<String> {
    view.rows().into_iter().map(|row| row.name).collect()
}

#[test]
fn the_screen_has_sums_rows_and_keys_at_80_by_24() {
    let shown = screen(&mut view(), 80, 24);
    for text in [
        "node1, probe set full  7 s",
        "10 packets/s  waiting 30 %  lost: 2 records",
        "vxlan-xmit",
        "60.0 %",
        "DROPS: none",
        "q quit",
    ] {
        assert!(shown.contains(text), "{text}\n{shown}");
    }
    // Too small for anything is no panic.
    for (width, height) in [(1, 1), (20, 5), (80, 6)] {
        screen(&mut view(), width, height);
    }
}

#[test]
fn rows_are_grouped_sorted_and_filtered_by_keys() {
    let mut view = view();
    assert_eq!(names(&view), ["vxlan-xmit", "backlog-wait", "ip-output"]);
    keys(&mut view, "ss");
    assert_eq!(names(&view), ["backlog-wait", "ip-output", "vxlan-xmit"]);
    keys(&mut view, "gg/WEB");
    assert_eq!((names(&view), view.is_typing), (vec!["shop/web-0".to_owned()], true));
    // What would quit is text now.
    assert!(!keys(&mut view, "q") && view.filter == "WEBq");
    press(&mut view, KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
    assert_eq!((names(&view).len(), view.is_typing), (3, false));
    keys(&mut view, "f?");
    let shown = screen(&mut view, 80, 24);
    assert!(
        shown.contains("FROZEN")
            && shown.contains("take the filter back")
            && shown.contains("Esc takes it back"),
        "{shown}"
    );
    assert!(keys(&mut view, "q"));
    assert!(press(&mut view, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn shares_add_up_and_scrolling_stays_in_the_table() {
    let mut view = view();
    let sum: f64 = view.rows().iter().map(|row| row.share).sum();
    // The end-to-end sum of the test's ticks is that of its rows.
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    view.first = 1000;
    screen(&mut view, 80, 24);
    assert_eq!(view.first, 2);
}

#[test]
fn times_are_short() {
    let shown = [0.0, 999.0, 1_500.0, 12_345.0, 999_000.0, 2.5e6, 3.25e9].map(time);
    assert_eq!(shown, ["0 ns", "999 ns", "1.50 µs", "12.3 µs", "999 µs", "2.50 ms", "3.25 s"]);
}
