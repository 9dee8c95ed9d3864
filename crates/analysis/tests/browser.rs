//! The pages in a real browser: zoom, search, sorting, filter, keys and print, driven by chromedriver. Skipped where there
//! is none.

#[path = "browser/driver.rs"]
mod driver;
mod support;

use std::fs;

use driver::Browser;
use overlay_trace_analysis::{
    breakdown::{Analysis, By, OverTime},
    report::{Format, Sort, TailFormat, report, tail},
    tail::{Of, Tail, Threshold},
};
use overlay_trace_format::Recording;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What is shown of the flame graph: the number of frames, and the part of the width that the first one has.
const FRAMES: &str = "
    const shown = [...document.querySelectorAll('svg.flame > svg')].filter(frame => frame.style.display !== 'none');
    return shown.length;";

#[test]
fn the_report_is_driven_by_mouse_and_keys() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vxlan.otr");
    support::write(&path, true, true);
    let recording = Recording::open(&path).unwrap();
    let mut analysis = Analysis::of(&recording, By::Stage).unwrap();
    analysis.over_time = Some(OverTime::of(&recording).unwrap());
    let page = dir.path().join("report.html");
    fs::write(&page, report(&mut analysis, Format::Html, Sort::Path).unwrap()).unwrap();
    browser.open(&page);

    zooms(&mut browser);
    searches(&mut browser);
    sorts_and_filters(&mut browser);
    prints(&mut browser);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

fn zooms(browser: &mut Browser) {
    let all = browser.number(FRAMES);
    assert!(all > 100.0, "{all} frames");
    let frame = "[...document.querySelectorAll('svg.flame > svg')].find(frame => frame.querySelector('title').textContent.includes('node-2 forward: '))";
    browser.click(frame);
    let zoomed = browser.number(FRAMES);
    assert!(zoomed < all / 2.0, "{zoomed} of {all} frames after a click");
    let width = browser.number(&format!("return parseFloat({frame}.getAttribute('width'))"));
    assert!((width - 100.0).abs() < 0.01, "{width} % wide");
    let said = browser.text("return document.getElementById('reading').textContent");
    assert!(said.contains("node-2 forward") && said.contains("per packet"), "{said}");

    let flame = "document.querySelector('svg.flame')";
    browser.keys(flame, "\u{e00c}");
    assert_eq!(browser.number(FRAMES), all, "Escape shows all");
    browser.wheel(flame, -400);
    assert!(browser.number(FRAMES) < all, "the wheel zooms in");
    browser.wheel(flame, 400);
    browser.keys(flame, "0");
    // From the root up to its widest child, then in.
    browser.keys(flame, "\u{e013}\u{e013}\u{e013}\u{e013}\u{e013}\u{e013}\u{e015}\u{e015}\u{e015}\u{e015}\u{e015}\u{e015}\u{e013}\u{e007}");
    let (zoomed, said) =
        (browser.number(FRAMES), browser.text("return document.getElementById('reading').textContent"));
    assert!(zoomed < all, "{zoomed} of {all} frames after Enter on {said}");
    browser.keys(flame, "\u{e00c}");
}

fn searches(browser: &mut Browser) {
    let input = "document.querySelector('input[aria-label^=Search]')";
    browser.keys(input, "iptables");
    let hits = browser.number("return document.querySelectorAll('svg.flame > svg.hit').length");
    let said = browser.text(&format!("return {input}.nextElementSibling.textContent"));
    assert!(hits > 5.0 && said.starts_with(&format!("{hits} frames, 14.6%")), "{hits}: {said}");
    browser.keys(input, &"\u{e003}".repeat("iptables".len()));
    assert_eq!(browser.number("return document.querySelectorAll('svg.flame > svg.hit').length"), 0.0);
}

fn sorts_and_filters(browser: &mut Browser) {
    let table = "[...document.querySelectorAll('table.sortable')].find(table => table.tHead.textContent.startsWith('stage'))";
    let column = |browser: &mut Browser| -> Vec<f64> {
        let cells = browser.run(&format!(
            "return [...{table}.tBodies[0].rows].filter(row => !row.hidden).map(row => parseFloat(row.cells[2].dataset.value))"
        ));
        cells.as_array().unwrap().iter().filter_map(Value::as_f64).collect()
    };
    let heading = format!("{table}.tHead.rows[0].cells[2]");
    browser.click(&heading);
    let down = column(browser);
    assert!(down.len() > 50 && down.is_sorted_by(|a, b| a >= b), "{down:?}");
    browser.keys(&heading, "\u{e007}");
    assert!(column(browser).is_sorted(), "Enter turns the order round");
    let input = format!("{table}.parentElement.previousElementSibling.querySelector('input')");
    browser.keys(&input, "vxlan-encap node-1");
    assert_eq!(column(browser).len(), 1);
    let said = browser.text(&format!("return {input}.nextElementSibling.textContent"));
    assert!(said.starts_with("1 of "), "{said}");
}

fn prints(browser: &mut Browser) {
    let pdf = browser.print();
    // "%PDF" in base64.
    assert!(pdf.starts_with("JVBER") && pdf.len() > 20_000, "{} bytes", pdf.len());
}

#[test]
fn a_tail_is_driven_and_no_script_of_others_is_run() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vxlan.otr");
    support::write(&path, true, true);
    let slow = Tail::of(&Recording::open(&path).unwrap(), Of::Packets, Threshold::Quantile(0.95), 2).unwrap();
    let text = String::from_utf8(tail(&slow, TailFormat::Html).unwrap()).unwrap();
    let page = dir.path().join("tail.html");
    fs::write(&page, text.replace("<main>", "<main><script>window.forged = 1</script>")).unwrap();
    browser.open(&page);
    assert_eq!(browser.run("return window.forged ?? null"), json!(null));
    let all = browser.number(FRAMES);
    browser.click("document.querySelector('svg.flame > svg:nth-of-type(3)')");
    assert!(browser.number(FRAMES) < all);
}
