//! What can be done, one entry each: its name, its keys, and what it does in words.

/// What a key, a click or the palette asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    QuitAndLeave,
    Help,
    View(usize),
    NextView,
    PreviousView,
    Up,
    Down,
    First,
    Last,
    PageUp,
    PageDown,
    Enter,
    Back,
    Filter,
    SortRight,
    SortLeft,
    Reverse,
    Hold,
    Amounts,
    Mark,
    Units,
    Names,
    Long,
    Tree,
    Details,
    Zoom,
    Pause,
    StepOn,
    StepBack,
    MinuteOn,
    MinuteBack,
    GoTo,
    Now,
    Packets,
    Connections,
    SaveText,
    SaveJson,
    Mouse,
    Palette,
    Redraw,
    Suspend,
}

/// One action.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub action: Action,
    /// As the palette and the file of keys have it.
    pub name: &'static str,
    pub keys: &'static [&'static str],
    pub explains: &'static str,
}

const fn known(action: Action, name: &'static str, keys: &'static [&'static str], explains: &'static str) -> Known {
    Known { action, name, keys, explains }
}

/// All actions, in the order of the help.
pub const ACTIONS: [Known; 48] = [
    known(Action::Quit, "quit", &["q", "ctrl-c"], "end"),
    known(Action::QuitAndLeave, "quit-and-leave", &["Q"], "end, and leave the last screen"),
    known(Action::Help, "help", &["?", "f1"], "explain this view"),
    known(Action::View(0), "view-program", &["1"], "view by program"),
    known(Action::View(1), "view-unit", &["2"], "view by pod, container or unit"),
    known(Action::View(2), "view-process", &["3"], "view by process"),
    known(Action::View(3), "view-device", &["4"], "view by device"),
    known(Action::View(4), "view-drops", &["5"], "view of drops"),
    known(Action::View(5), "view-sockets", &["6"], "view of sockets"),
    known(Action::View(6), "view-hogs", &["7"], "view of what processes use"),
    known(Action::NextView, "next-view", &["tab"], "the next view"),
    known(Action::PreviousView, "previous-view", &["shift-tab"], "the view before"),
    known(Action::Up, "up", &["up", "k"], "a line up"),
    known(Action::Down, "down", &["down", "j"], "a line down"),
    known(Action::First, "first", &["g", "home"], "the first line"),
    known(Action::Last, "last", &["G", "end"], "the last line"),
    known(Action::PageUp, "page-up", &["page-up", "ctrl-u"], "a page up"),
    known(Action::PageDown, "page-down", &["page-down", "ctrl-d"], "a page down"),
    known(Action::Enter, "enter", &["enter", "right", "l"], "go into the line: its processes, sockets, packets"),
    known(Action::Back, "back", &["esc", "backspace", "left", "h"], "go back; first clears the filter"),
    known(Action::Filter, "filter", &["/"], "show only what matches"),
    known(Action::SortRight, "sort-right", &[">"], "sort by the column to the right"),
    known(Action::SortLeft, "sort-left", &["<"], "sort by the column to the left"),
    known(Action::Reverse, "reverse", &["S"], "reverse the order"),
    known(Action::Hold, "hold", &["o"], "hold the order as it is, or let it go"),
    known(Action::Amounts, "amounts", &["m"], "rate, sum, or sum since the mark"),
    known(Action::Mark, "mark", &["0"], "set the mark: sums since it begin now"),
    known(Action::Units, "units", &["u"], "bytes or bits, by 1000 or 1024"),
    known(Action::Names, "names", &["d"], "names of addresses, or numbers"),
    known(Action::Long, "long", &["e"], "whole paths, and what a process runs"),
    known(Action::Tree, "tree", &["v"], "each process below those that started it"),
    known(Action::Details, "details", &["i"], "details of the line, and graphs"),
    known(Action::Zoom, "zoom", &["z"], "details on the whole screen"),
    known(Action::Pause, "pause", &["space"], "stand still, or go on"),
    known(Action::StepOn, "step-on", &["t"], "an interval on"),
    known(Action::StepBack, "step-back", &["T"], "an interval back"),
    known(Action::MinuteOn, "minute-on", &["]"], "a minute on"),
    known(Action::MinuteBack, "minute-back", &["["], "a minute back"),
    known(Action::GoTo, "go-to", &["b"], "go to a time: 22:10, 'yesterday 22:10', -2h"),
    known(Action::Now, "now", &["."], "back to what is measured now"),
    known(Action::Packets, "packets", &["p"], "packets of the line as they pass"),
    known(Action::Connections, "connections", &["c"], "connections of the line as they come and go"),
    known(Action::SaveText, "save-text", &["w"], "write the screen to a file, as text"),
    known(Action::SaveJson, "save-json", &["W"], "write the view to a file, as JSON"),
    known(Action::Mouse, "mouse", &["M"], "the mouse: used here, or left to the terminal"),
    known(Action::Palette, "palette", &[":"], "find an action by its name"),
    known(Action::Redraw, "redraw", &["ctrl-l"], "draw the whole screen anew"),
    known(Action::Suspend, "suspend", &["ctrl-z"], "stop, and give the terminal back until it is continued"),
];

/// Actions of which the name or the explanation has each of the typed words.
pub fn find(text: &str) -> Vec<&'static Known> {
    let text = text.to_lowercase();
    let has = |known: &&Known| {
        text.split_whitespace().all(|word| known.name.contains(word) || known.explains.to_lowercase().contains(word))
    };
    ACTIONS.iter().filter(has).collect()
}
