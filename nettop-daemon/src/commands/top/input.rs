//! Keys, clicks and sizes from the terminal.

use crossterm::event::{
    self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
};
use nettop_top::{Event, Key};
use tokio::sync::{mpsc::Sender, oneshot};

use super::terminal::known_size;

/// Reads on a thread of its own, which ends with the terminal or with nettopd. Returns where it says why.
pub fn start(events: Sender<Event>) -> oneshot::Receiver<std::io::Error> {
    let (ended, why) = oneshot::channel();
    std::thread::spawn(move || {
        loop {
            let event = match event::read() {
                Ok(input) => read(input),
                Err(error) => {
                    let _ = ended.send(error);
                    return;
                }
            };
            if event.is_some_and(|event| events.blocking_send(event).is_err()) {
                return;
            }
        }
    });
    why
}

fn read(input: Input) -> Option<Event> {
    match input {
        Input::Key(key) => Some(Event::Key(key_of(key)?)),
        Input::Resize(columns, lines) => {
            let (columns, lines) = known_size(columns, lines);
            Some(Event::Resized(columns, lines))
        }
        Input::Mouse(mouse) => {
            let wheel = match mouse.kind {
                MouseEventKind::Down(MouseButton::Left) => None,
                MouseEventKind::ScrollUp => Some(true),
                MouseEventKind::ScrollDown => Some(false),
                _ => return None,
            };
            Some(Event::Mouse { column: mouse.column, line: mouse.row, wheel })
        }
        _ => None,
    }
}

fn key_of(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char(c) if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Ctrl(c.to_ascii_lowercase()),
        KeyCode::Char(_) if key.modifiers.contains(KeyModifiers::ALT) => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::F(number) => Key::F(number),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        _ => return None,
    })
}
