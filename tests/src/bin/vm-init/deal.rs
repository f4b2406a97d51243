//! How a machine's scenarios are dealt out to its guests.

/// One that starts a nettopd of its own takes about so many times as long as one that shares it.
const ALONE_WEIGHT: usize = 2;

/// The guest's share of those that share a nettopd and of those that do not. Scenarios of a file that share one stay
/// together: each guest would start its own.
pub fn deal<'a>(together: &[&'a str], alone: &[&'a str], [guest, guests]: [usize; 2]) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut weights = vec![0; guests];
    let mut is_mine = |weight: usize| {
        let lightest = (0..guests).min_by_key(|guest| weights[*guest]).unwrap_or(0);
        weights[lightest] += weight;
        lightest == guest
    };
    let mut files: Vec<&[&str]> = together.chunk_by(|a, b| file(a) == file(b)).collect();
    // The largest first, so that small ones even out.
    files.sort_by_key(|file| std::cmp::Reverse(file.len()));
    let together = files.into_iter().filter(|file| is_mine(file.len())).flatten().copied().collect();
    let alone = alone.iter().filter(|_| is_mine(ALONE_WEIGHT)).copied().collect();
    (together, alone)
}

/// Name of the file that a scenario is in.
pub fn file(test: &str) -> Option<&str> {
    test.split("::").next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_dealt_once_files_stay_whole_and_no_guest_has_much_more() {
        let together = ["a::1", "a::2", "a::3", "a::4", "a::5", "b::1", "c::1", "c::2", "d::1"];
        let alone = ["e::1", "e::2", "f::1"];
        let shares = [0, 1].map(|guest| deal(&together, &alone, [guest, 2]));
        let mut all: Vec<&str> =
            shares.iter().flat_map(|(together, alone)| together.iter().chain(alone)).copied().collect();
        all.sort_unstable();
        assert_eq!(all, [&together[..], &alone].concat());
        let files = shares.each_ref().map(|(together, _)| together.chunk_by(|a, b| file(a) == file(b)).count());
        assert_eq!(files.iter().sum::<usize>(), 4, "{shares:?}");
        let weights = shares.each_ref().map(|(together, alone)| together.len() + ALONE_WEIGHT * alone.len());
        assert!(weights[0].abs_diff(weights[1]) <= ALONE_WEIGHT, "{shares:?}");
        assert_eq!(deal(&together, &alone, [0, 1]).1, alone);
    }
}
