//! Predicted times as a page: the answer, and each change with its interval.

use maud::{Markup, html};

use super::{
    html::numbers,
    page::{self, Cell, table},
    units::{count, time},
    what_if::answer,
};
use crate::what_if::{Prediction, WhatIf};

/// The page.
pub(super) fn page(what_if: &WhatIf) -> String {
    let title = format!("What if: {} (node {})", what_if.file, what_if.node);
    let body = html! {
        h1 { (title) }
        p.answer { (answer(what_if)) }
        @if !what_if.predictions.is_empty() { (predictions(what_if)) }
        h2 { "The recording" }
        p.hint {
            "kernel " (what_if.kernel) ", probe set " (what_if.probe_set) ", " (count(what_if.now.count()))
            " packets; times are net of probe overhead."
        }
    };
    page::page(&title, &body)
}

fn predictions(what_if: &WhatIf) -> Markup {
    let heading = ["per packet", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"].map(str::to_owned);
    let mut rows: Vec<(String, Vec<Cell>)> = vec![("now".into(), numbers(&what_if.now))];
    rows.extend(what_if.predictions.iter().map(|one| (one.change.to_string(), numbers(&one.then))));
    html! {
        h2 { "Mean time per packet" }
        p.hint {
            "The bar is the predicted time; the line is the interval from all waiting saved to none. The cost of a replacement, "
            "and a change of the load, are not included."
        }
        figure { (bars(what_if)) }
        h2 { "Predicted times" }
        (table(&heading, &rows))
    }
}

/// Pixels of a bar with its name.
const STEP: usize = 36;

fn bars(what_if: &WhatIf) -> Markup {
    let now = what_if.now.mean();
    let most = what_if.predictions.iter().map(|one| one.slowest.mean()).fold(now, f64::max).max(1.0);
    let percent = |ns: f64| format!("{:.2}%", 98.0 * ns / most);
    let bar = |number: usize, name: &str, mean: f64, range: Option<&Prediction>| {
        html! {
            g {
                text.label x="0" y=(number * STEP + 11) { (name) ": " (time(mean)) }
                rect.bin x="0" y=(number * STEP + 16) width=(percent(mean)) height="14" {}
                @if let Some(one) = range {
                    line.mark x1=(percent(one.fastest.mean())) x2=(percent(one.slowest.mean())) y1=(number * STEP + 23) y2=(number * STEP + 23) {
                        title { "between " (time(one.fastest.mean())) " and " (time(one.slowest.mean())) }
                    }
                }
            }
        }
    };
    html! {
        svg.chart xmlns="http://www.w3.org/2000/svg" width="100%" height=((what_if.predictions.len() + 1) * STEP) role="img"
            aria-label="Predicted mean times; the table below has the numbers" {
            (bar(0, "now", now, None))
            @for (number, one) in what_if.predictions.iter().enumerate() {
                (bar(number + 1, &one.change.to_string(), one.then.mean(), Some(one)))
            }
        }
    }
}
