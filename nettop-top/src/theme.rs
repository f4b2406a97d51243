//! Colours by what they mean, for few and many colours and for both kinds of background. No meaning is in a colour alone.

use ratatui::style::{Color, Modifier, Style};

/// How many colours the terminal shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colors {
    Never,
    #[default]
    Sixteen,
    Many,
    True,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Plain,
    /// The chosen line, column or view.
    Chosen,
    Heading,
    /// Near a limit.
    Near,
    /// Lost, dropped, or nobody's.
    Bad,
    /// What is over, or quiet.
    Dim,
    Graph,
}

/// Colours for a terminal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Theme {
    pub colors: Colors,
    pub is_light: bool,
}

/// Red, green and blue, on a dark and on a light background.
const NEAR: [(u8, u8, u8); 2] = [(215, 175, 0), (135, 95, 0)];
const BAD: [(u8, u8, u8); 2] = [(255, 95, 95), (175, 0, 0)];
const DIM: [(u8, u8, u8); 2] = [(138, 138, 138), (98, 98, 98)];
const GRAPH: [(u8, u8, u8); 2] = [(95, 175, 215), (0, 95, 135)];

impl Theme {
    pub fn style(self, role: Role) -> Style {
        let plain = Style::new();
        let modified = match role {
            Role::Chosen => plain.add_modifier(Modifier::REVERSED),
            Role::Heading | Role::Bad => plain.add_modifier(Modifier::BOLD),
            _ => plain,
        };
        match self.color(role) {
            Some(color) => modified.fg(color),
            None => modified,
        }
    }

    fn color(self, role: Role) -> Option<Color> {
        let rgb = rgb(role, self.is_light)?;
        match self.colors {
            Colors::Never => None,
            Colors::Sixteen => match role {
                // On a light background yellow and cyan are hard to read in most palettes.
                Role::Near => Some(if self.is_light { Color::Magenta } else { Color::Yellow }),
                Role::Bad => Some(Color::Red),
                Role::Graph => Some(if self.is_light { Color::Blue } else { Color::Cyan }),
                _ => None,
            },
            Colors::Many => Some(Color::Indexed(indexed(rgb))),
            Colors::True => Some(Color::Rgb(rgb.0, rgb.1, rgb.2)),
        }
    }
}

fn rgb(role: Role, is_light: bool) -> Option<(u8, u8, u8)> {
    let pair = match role {
        Role::Near => NEAR,
        Role::Bad => BAD,
        Role::Dim => DIM,
        Role::Graph => GRAPH,
        Role::Plain | Role::Chosen | Role::Heading => return None,
    };
    Some(pair[usize::from(is_light)])
}

/// The same in xterm's palette: greys from 232 on, else a cube of six steps.
fn indexed((red, green, blue): (u8, u8, u8)) -> u8 {
    if red == green && green == blue {
        return 232 + red.saturating_sub(8) / 10;
    }
    let step = |part: u8| if part < 48 { 0 } else { part.saturating_sub(35) / 40 };
    16 + 36 * step(red) + 6 * step(green) + step(blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance as WCAG has it.
    fn luminance((red, green, blue): (u8, u8, u8)) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.03928 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    fn of_index(index: u8) -> (u8, u8, u8) {
        if index >= 232 {
            let grey = 8 + (index - 232) * 10;
            return (grey, grey, grey);
        }
        let level = |step: u8| if step == 0 { 0 } else { 55 + step * 40 };
        let index = index - 16;
        (level(index / 36), level(index / 6 % 6), level(index % 6))
    }

    #[test]
    fn every_colour_can_be_read_on_its_background() {
        for is_light in [false, true] {
            // Terminals' own backgrounds are not quite black or white.
            let background = luminance(if is_light { (238, 238, 238) } else { (30, 30, 30) });
            for role in [Role::Near, Role::Bad, Role::Dim, Role::Graph] {
                let rgb = rgb(role, is_light).unwrap();
                for shown in [rgb, of_index(indexed(rgb))] {
                    let (one, other) = (luminance(shown) + 0.05, background + 0.05);
                    let contrast = (one / other).max(other / one);
                    assert!(contrast >= 3.0, "{role:?} {shown:?} has {contrast:.2} with is_light {is_light}");
                }
            }
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        for role in [Role::Plain, Role::Chosen, Role::Heading, Role::Near, Role::Bad, Role::Dim, Role::Graph] {
            let style = Theme { colors: Colors::Never, is_light: false }.style(role);
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
