//! /proc/PID/mountinfo: what is mounted where.

/// One mount, its texts as the kernel writes them (`show_mountinfo`).
#[derive(Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// `major:minor` of the file system.
    pub device: &'a [u8],
    /// What of the file system is mounted.
    pub root: &'a [u8],
    pub point: &'a [u8],
    pub kind: &'a [u8],
    /// A path of a device, or any text.
    pub source: &'a [u8],
}

/// The mounts in the text of the file. Lines that are no such are left out.
pub fn mounts(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        // Optional fields end with a hyphen.
        fields.find(|field| *field == b"-")?;
        let (kind, source) = (fields.next()?, fields.next()?);
        Some(Mount { device, root, point, kind, source })
    })
}

/// `mangle_path` writes blanks, tabs, ends of lines and backslashes as octal numbers.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let octal = more.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.filter(|_| *first == b'\\').and_then(|octal| u8::from_str_radix(octal, 8).ok());
        plain.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &more[3..] } else { more };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_octal_number_stays() {
        assert_eq!(unescape(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescape(b"\\04\\999\\"), b"\\04\\999\\");
    }
}
