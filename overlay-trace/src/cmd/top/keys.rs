//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::view::View;

/// What `?` shows.
pub const HELP: [(&str, &str); 8] = [
    ("g", "group by stage, layer, pod or namespace, device"),
    ("s", "sort by share of the time, p99, name"),
    ("/", "show only some rows; Enter ends it, Esc takes it back"),
    ("f or space", "freeze, and go on"),
    ("arrows, page up/down", "scroll"),
    ("?", "this help"),
    ("Esc", "close the help, take the filter back"),
    ("q or Ctrl-C", "quit"),
];

/// So many rows are a page.
const PAGE: usize = 10;

/// Whether the key ends the program.
pub fn press(view: &mut View, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return key.code == KeyCode::Char('c');
    }
    if view.is_typing {
        type_filter(view, key.code);
        return false;
    }
    match key.code {
        KeyCode::Char('q') => return true,
        KeyCode::Char('g') => (view.by, view.first) = (view.by.next(), 0),
        KeyCode::Char('s') => view.sort = view.sort.next(),
        KeyCode::Char('/') => view.is_typing = true,
        KeyCode::Char('f' | ' ') => view.is_frozen = !view.is_frozen,
        KeyCode::Char('?') => view.shows_help = !view.shows_help,
        KeyCode::Esc if view.shows_help => view.shows_help = false,
        KeyCode::Esc => view.filter.clear(),
        KeyCode::Down => view.first += 1,
        KeyCode::Up => view.first = view.first.saturating_sub(1),
        KeyCode::PageDown => view.first += PAGE,
        KeyCode::PageUp => view.first = view.first.saturating_sub(PAGE),
        KeyCode::Home => view.first = 0,
        _ => {}
    }
    false
}

fn type_filter(view: &mut View, key: KeyCode) {
    match key {
        KeyCode::Enter => view.is_typing = false,
        KeyCode::Esc => {
            view.is_typing = false;
            view.filter.clear();
        }
        KeyCode::Backspace => {
            view.filter.pop();
        }
        KeyCode::Char(char) => {
            view.filter.push(char);
            view.first = 0;
        }
        _ => {}
    }
}
