//! The reader, on a handmade type section and on the running kernel's.

use super::*;

/// `struct s { int a; union { struct { int b; }; }; }; enum e { X = 7 }; void f(void *, int);` and tracepoint
/// `t(int)`.
fn fixture() -> Vec<u8> {
    let strings = b"\0s\0a\0b\0int\0e\0X\0btf_trace_t\0f\0";
    let name = |s: &[u8]| {
        u32::try_from(
            strings
                .windows(s.len() + 2)
                .position(|w| w[0] == 0 && &w[1..=s.len()] == s && w[s.len() + 1] == 0)
                .unwrap()
                + 1,
        )
        .unwrap()
    };
    let info = |kind: u32, n: u32| kind << 24 | n;
    let types: Vec<u32> = [
        vec![name(b"int"), info(kind::INT, 0), 4, 32],
        vec![0, info(kind::STRUCT, 1), 4, name(b"b"), 1, 0],
        vec![0, info(kind::UNION, 1), 4, 0, 2, 0],
        vec![name(b"s"), info(kind::STRUCT, 2), 8, name(b"a"), 1, 0, 0, 3, 32],
        vec![name(b"e"), info(kind::ENUM, 1), 4, name(b"X"), 7],
        vec![0, info(kind::FUNC_PROTO, 2), 0, 0, 9, 0, 1],
        vec![0, info(kind::PTR, 0), 6],
        vec![name(b"btf_trace_t"), info(kind::TYPEDEF, 0), 7],
        vec![0, info(kind::PTR, 0), 0],
        vec![name(b"f"), info(kind::FUNC, 0), 6],
    ]
    .concat();
    let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
    let (types_len, strings_len) = (u32::try_from(types.len()).unwrap(), u32::try_from(strings.len()).unwrap());
    let mut data = 0xeb9f_u16.to_ne_bytes().to_vec();
    data.extend([1, 0]);
    data.extend([24, 0, types_len, types_len, strings_len].into_iter().flat_map(u32::to_ne_bytes));
    data.extend(types);
    data.extend(strings);
    data
}

#[test]
fn finds_members_through_anonymous_ones() {
    let btf = Btf::parse(fixture(), 0).unwrap();
    assert_eq!(btf.offset("s", "a").unwrap(), 0);
    assert_eq!(btf.offset("s", "b").unwrap(), 4);
    assert_eq!(btf.offset("s", "c").unwrap_err().to_string(), "this kernel's BTF has no s.c");
}

#[test]
fn finds_enumerators_and_prototypes() {
    let btf = Btf::parse(fixture(), 0).unwrap();
    assert_eq!(btf.enumerator("e", "X").unwrap(), 7);
    assert_eq!(btf.tracepoint("t").unwrap(), "void (int)");
    assert!(btf.tracepoint("u").is_err());
    assert_eq!(btf.function("f").unwrap(), "void (void *, int)");
    assert_eq!(btf.function("g").unwrap_err().to_string(), "this kernel's BTF has no function g");
}

#[test]
fn what_is_left_has_its_name_and_id() {
    let btf = Btf::parse(fixture(), 0).unwrap();
    let only = Btf::parse(btf.only(["f", "btf_trace_t", "s", "absent"].map(str::to_owned).into_iter()), 0).unwrap();
    for (kind, name) in [(kind::FUNC, "f"), (kind::TYPEDEF, "btf_trace_t")] {
        assert!(only.find(kind, name).is_some());
        assert_eq!(only.find(kind, name), btf.find(kind, name));
    }
    assert_eq!(only.end(), btf.end());
    assert_eq!((only.find(kind::STRUCT, "s"), only.find(kind::FUNC, "g")), (None, None));
    assert!(aya::Btf::parse(&btf.only(std::iter::empty()), aya::Endianness::default()).is_ok());
}

#[test]
fn refuses_what_is_not_btf_without_panicking() {
    for cut in 0..fixture().len() {
        let _ = Btf::parse(fixture()[..cut].to_vec(), 0);
    }
    assert_eq!(Btf::parse(vec![0; 64], 0).unwrap_err(), "wrong magic number");
}
