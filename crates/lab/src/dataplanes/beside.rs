//! Which labs can stand at the same time, and so share a recording.

use super::Lab;

/// Puts what is to be done in labs into groups of at most `most`, in its order. `of` tells its lab, and whether it
/// wants to be alone. A lab stands once in a group, and one that wants all sockets by itself.
pub fn beside<T>(
    wanted: impl IntoIterator<Item = T>,
    most: usize,
    of: impl Fn(&T) -> (&'static Lab, bool),
) -> Vec<Vec<T>> {
    let is_alone = |one: &T| of(one).1 || of(one).0.wants_all_sockets();
    let mut groups: Vec<Vec<T>> = Vec::new();
    for one in wanted {
        let fits = |group: &&mut Vec<T>| {
            let can_join = |other: &T| !is_alone(other) && of(other).0.name != of(&one).0.name;
            group.len() < most && !is_alone(&one) && group.iter().all(can_join)
        };
        match groups.last_mut().filter(fits) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplanes::find;

    #[test]
    fn labs_that_disturb_each_other_do_not_stand_together() {
        let wanted =
            ["host", "same-pod", "host", "gre", "geneve", "vlan", "cilium-service", "qinq", "vxlan6"];
        let of = |name: &&str| (find(name).unwrap(), *name == "vxlan6");
        let groups = beside(wanted, 3, of);
        let expected: &[&[&str]] = &[
            &["host", "same-pod"],
            &["host", "gre", "geneve"],
            &["vlan"],
            &["cilium-service"],
            &["qinq"],
            &["vxlan6"],
        ];
        assert_eq!(groups, expected);
    }
}
