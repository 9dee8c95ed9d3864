//! Draws the screen, without colours: bold and reversed text do everywhere.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Text},
    widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Sparkline, Table},
};

use super::{
    keys::HELP,
    view::{By, Picture, Row, View, time},
};

/// Lines for drops, their title included.
const DROPS: u16 = 4;

pub fn draw(frame: &mut Frame, view: &mut View) {
    let [title, sums, charts, table, drops, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Min(3),
        Constraint::Length(DROPS),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(title_of(view)).style(reversed), title);
    if let Some(picture) = &view.picture {
        frame.render_widget(Paragraph::new(sums_of(picture)), sums);
        draw_drops(frame, picture, drops, bold);
    } else {
        frame.render_widget(Paragraph::new("waiting for packets"), sums);
    }
    draw_charts(frame, view, charts);
    draw_table(frame, view, table, bold);
    frame.render_widget(Paragraph::new(keys_of(view)).style(reversed), keys);
    if view.shows_help {
        draw_help(frame);
    }
}

fn title_of(view: &View) -> String {
    let elapsed = view.picture.as_ref().map_or(0.0, |picture| picture.elapsed.as_secs_f64());
    let state = match (view.is_frozen, view.picture.as_ref().is_some_and(|picture| picture.has_ended)) {
        (true, _) => "  FROZEN",
        (false, true) => "  END",
        (false, false) => "",
    };
    format!("overlay-trace top  {}  {elapsed:.0} s{state}", view.title)
}

fn sums_of(picture: &Picture) -> String {
    format!(
        "{:.0} packets/s  waiting {:.0} %  lost: {}",
        picture.packets_per_s,
        picture.wait * 100.0,
        picture.losses
    )
}

fn keys_of(view: &View) -> String {
    if view.is_typing {
        return format!("filter: {}_", view.filter);
    }
    let filter = if view.filter.is_empty() { String::new() } else { format!(" [{}]", view.filter) };
    format!(
        "g by {}  s sort {}  / filter{filter}  f freeze  ? help  q quit",
        view.by.name(),
        view.sort.name()
    )
}

fn draw_charts(frame: &mut Frame, view: &View, area: Rect) {
    let lines = Layout::vertical([Constraint::Length(1); 3]).split(area);
    let now = view.picture.as_ref().map_or([0.0; 3], |picture| picture.percentiles_ns);
    for (number, name) in ["p50", "p99", "p99.9"].into_iter().enumerate() {
        let [label, chart] =
            Layout::horizontal([Constraint::Length(16), Constraint::Min(1)]).areas(lines[number]);
        frame.render_widget(Paragraph::new(format!("{name:<6}{:>8}", time(now[number]))), label);
        let history = &view.history[number];
        let shown = &history[history.len().saturating_sub(usize::from(chart.width))..];
        frame.render_widget(Sparkline::default().data(shown), chart);
    }
}

fn draw_table(frame: &mut Frame, view: &mut View, area: Rect, bold: Style) {
    let rows = view.rows();
    // Scrolling ends where the last row is the first.
    view.first = view.first.min(rows.len().saturating_sub(1));
    let shown = rows.iter().skip(view.first).map(|row| table_row(row, view.by));
    let name = match view.by {
        By::Stage => "STAGE",
        By::Layer => "LAYER",
        By::Pod => "POD OR NAMESPACE",
        By::Device => "NAMESPACE AND DEVICE",
    };
    let right = |text: &'static str| Cell::new(Text::from(text).alignment(Alignment::Right));
    let head = TableRow::new([
        Cell::new(name),
        right("LVL"),
        Cell::new("KIND"),
        right("SHARE"),
        right("/PACKET"),
        right("P50"),
        right("P99"),
        right("P99.9"),
    ]);
    let widths = [
        Constraint::Min(20),
        Constraint::Length(3),
        Constraint::Length(4),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    frame.render_widget(Table::new(shown, widths).header(head.style(bold)), area);
}

fn table_row(row: &Row, by: By) -> TableRow<'_> {
    let right = |text: String| Cell::new(Text::from(text).alignment(Alignment::Right));
    let [p50, p99, p999] = row.percentiles_ns.map_or_else(Default::default, |ns| ns.map(time));
    let level = if matches!(by, By::Stage | By::Layer) { row.level.clone() } else { String::new() };
    TableRow::new([
        Cell::new(row.name.as_str()),
        right(level),
        Cell::new(row.kind),
        right(format!("{:.1} %", row.share * 100.0)),
        right(time(row.per_packet_ns)),
        right(p50),
        right(p99),
        right(p999),
    ])
}

fn draw_drops(frame: &mut Frame, picture: &Picture, area: Rect, bold: Style) {
    let title = match picture.drops.len() {
        0 => "DROPS: none in the last seconds".to_owned(),
        number if number < usize::from(DROPS) => "DROPS".to_owned(),
        number => format!("DROPS, the most frequent of {number}"),
    };
    let shown = picture.drops.iter().take(usize::from(DROPS) - 1).map(|drop| Line::from(drop.as_str()));
    let lines: Vec<Line> = [Line::styled(title, bold)].into_iter().chain(shown).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_help(frame: &mut Frame) {
    let all = frame.area();
    let (width, height) = (all.width.min(78), all.height.min(HELP.len() as u16 + 5));
    let area = Rect { x: (all.width - width) / 2, y: (all.height - height) / 2, width, height };
    let mut lines: Vec<Line> =
        HELP.iter().map(|(key, what)| Line::from(format!(" {key:<20} {what}"))).collect();
    lines.push(Line::default());
    lines.push(Line::from(" Times are of the last five seconds. SHARE is of all packets' time, /PACKET"));
    lines.push(Line::from(" the mean over all packets; percentiles are of packets that were there."));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("Help")), area);
}
