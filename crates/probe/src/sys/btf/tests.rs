use super::*;

fn info(kind: u32, count: u32) -> u32 {
    kind << 24 | count
}

fn encode(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let length = types.len() as u32 * 4;
    let header = [MAGIC as u32 | 1 << 16, 24, 0, length, length, strings.len() as u32];
    let words = header.iter().chain(types).flat_map(|word| word.to_ne_bytes());
    words.chain(strings.iter().copied()).collect()
}

/// BTF of `struct a { int x; struct { int y; }; }` on top of nothing, and a function `f(struct a *)`.
fn sample() -> Vec<u8> {
    let types = [
        &[1, info(1, 0), 4, 32][..],            // 1: int
        &[0, info(4, 1), 4, 9, 1, 0],           // 2: struct { int y; }
        &[5, info(4, 2), 8, 7, 1, 0, 0, 2, 32], // 3: struct a
        &[0, info(2, 0), 3],                    // 4: struct a *
        &[0, info(13, 1), 0, 0, 4],             // 5: void (struct a *)
        &[11, info(12, 0), 5],                  // 6: f
    ];
    encode(&types.concat(), b"\0int\0a\0x\0y\0f\0")
}

/// BTF of a module on top of it: `struct b { struct a *x; int z; }`, functions `f(struct b *)` and `g(struct a *)`.
/// What lies in the base is referred to there: types before 7, strings before 13.
fn module() -> Vec<u8> {
    let types = [
        &[13, info(4, 2), 12, 7, 4, 0, 15, 1, 64][..], // 7: struct b
        &[0, info(2, 0), 7],                           // 8: struct b *
        &[0, info(13, 1), 0, 0, 8],                    // 9: void (struct b *)
        &[11, info(12, 0), 9],                         // 10: f
        &[17, info(12, 0), 5],                         // 11: g
    ];
    encode(&types.concat(), b"b\0z\0g\0")
}

fn split() -> (Arc<Btf>, Btf) {
    let base = Arc::new(Btf::parse(&sample(), None).unwrap());
    let module = Btf::parse(&module(), Some(base.clone())).unwrap();
    (base, module)
}

#[test]
fn a_modules_types_build_on_the_kernels() {
    let (_, module) = split();
    assert_eq!(module.first(), 7);
    let b = module.find("b", Kind::Struct).unwrap();
    let members: Vec<_> =
        module.members(b).map(|member| (member.name.to_owned(), member.type_id, member.bits)).collect();
    assert_eq!(members, [("x".to_owned(), 4, 0), ("z".to_owned(), 1, 64)]);
    assert_eq!(module.kind(4), Kind::Pointer);
    assert_eq!(module.name(module.behind(4)), "a");
    let g = module.find("g", Kind::Function).unwrap();
    let parameter = module.parameters(module.behind(g)).next().unwrap();
    assert_eq!(module.name(module.behind(parameter)), "a");
}

#[test]
fn only_a_modules_own_types_are_found_in_it() {
    let (base, module) = split();
    assert_eq!(module.find("a", Kind::Struct), None);
    // Both have a function of this name.
    assert_eq!(base.find("f", Kind::Function), Some(6));
    assert_eq!(module.find("f", Kind::Function), Some(10));
    let parameter = module.parameters(module.behind(10)).next().unwrap();
    assert_eq!(module.name(module.behind(parameter)), "b");
}

#[test]
fn types_beyond_the_end_are_none() {
    let (base, module) = split();
    assert_eq!(base.kind(7), Kind::Other);
    assert_eq!(module.kind(12), Kind::Other);
    assert_eq!(module.raw(12), None);
    assert_eq!(module.raw(10), Some(&[11, info(12, 0), 9][..]));
    assert_eq!(module.raw(3), base.raw(3));
    assert_eq!((module.text(12), module.text(13), module.text(400)), ("", "b", ""));
}

#[test]
fn types_are_found_and_walked() {
    let btf = Btf::parse(&sample(), None).unwrap();
    let a = btf.find("a", Kind::Struct).unwrap();
    let members: Vec<_> = btf.members(a).map(|member| (member.name.to_owned(), member.bits)).collect();
    assert_eq!(members, [("x".to_owned(), 0), (String::new(), 32)]);
    let f = btf.find("f", Kind::Function).unwrap();
    let parameter = btf.parameters(btf.behind(f)).next().unwrap();
    assert_eq!(btf.kind(parameter), Kind::Pointer);
    assert_eq!(btf.name(btf.behind(parameter)), "a");
    assert_eq!(btf.find("a", Kind::Function), None);
}

#[test]
fn what_is_cut_off_or_foreign_is_an_error_and_no_panic() {
    let whole = sample();
    for length in 0..whole.len() {
        assert!(Btf::parse(&whole[..length], None).is_err(), "{length} bytes were taken");
    }
    assert!(Btf::parse(&[0x7f; 64], None).is_err());
}
