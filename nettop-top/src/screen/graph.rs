//! Series of amounts as characters: eighths of a block, or in ASCII.

use super::pen::Pen;
use crate::theme::Role;
use ratatui::layout::Rect;

const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 9] = [' ', '.', '.', ':', ':', '-', '=', '+', '#'];

/// One line: the last amounts at the right, the largest as high as the line.
pub(super) fn trend(amounts: &[u64], columns: usize, is_ascii: bool) -> String {
    let shown = &amounts[amounts.len().saturating_sub(columns)..];
    let most = shown.iter().copied().max().unwrap_or(0);
    let blanks = std::iter::repeat_n(' ', columns - shown.len());
    blanks.chain(shown.iter().map(|amount| level(eighths(*amount, most, 1), is_ascii))).collect()
}

/// Several lines, the last amounts at the right.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, amounts: &[u64]) {
    let columns = usize::from(area.width);
    let shown = &amounts[amounts.len().saturating_sub(columns)..];
    let most = shown.iter().copied().max().unwrap_or(0);
    for line in 0..area.height {
        // From the top: what is above this line's bottom.
        let below = u64::from(area.height - 1 - line) * 8;
        let of = |amount: &u64| eighths(*amount, most, area.height).saturating_sub(below).min(8);
        let text: String = shown.iter().map(|amount| level(of(amount), pen.state.options.is_ascii)).collect();
        let blanks = " ".repeat(columns - shown.len());
        pen.put(area.x, area.y + line, area.width, &(blanks + &text), Role::Graph);
    }
}

/// How high an amount is, in eighths of a line; what is not nothing is seen.
fn eighths(amount: u64, most: u64, lines: u16) -> u64 {
    if amount == 0 || most == 0 {
        return 0;
    }
    let eighths = u128::from(amount) * u128::from(lines) * 8 / u128::from(most);
    u64::try_from(eighths).unwrap_or(u64::MAX).max(1)
}

fn level(eighths: u64, is_ascii: bool) -> char {
    let levels = if is_ascii { &ASCII } else { &BLOCKS };
    let at = usize::try_from(eighths).unwrap_or(8).min(8);
    levels[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_is_as_wide_as_its_column_and_shows_the_smallest_amount() {
        assert_eq!(trend(&[0, 1, 4, 8], 6, false), "   ▁▄█");
        assert_eq!(trend(&[9, 1, 1_000_000], 2, false), "▁█");
        assert_eq!(trend(&[0, 0], 2, true), "  ");
        assert_eq!(trend(&[1, u64::MAX], 2, true), ".#");
    }
}
