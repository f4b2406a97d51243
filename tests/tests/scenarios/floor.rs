//! Kernels below the floor: nettopd refuses and leaves nothing behind. Ignored where the kernel is not one;
//! `cargo xtask vm 5.10` runs it.

use nettop_tests::run_nettopd;

#[test]
#[ignore = "for kernels older than 5.15; cargo xtask vm 5.10 runs it"]
fn an_old_kernel_is_refused_in_one_line_and_nothing_stays_attached() {
    let programs = || aya::programs::loaded_programs().filter(Result::is_ok).count();
    let before = programs();
    for args in [&["--once"][..], &["check"]] {
        let output = run_nettopd(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(said.contains("Linux 5.15 or later"), "{args:?}: {said}");
    }
    assert_eq!(programs(), before);
}
