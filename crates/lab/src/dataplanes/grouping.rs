//! Groups labs that can be up at the same time and so share a recording.

use super::lab::Lab;

/// Splits tasks, in order, into groups of at most `limit` whose labs can be up together. `describe` returns a
/// task's lab and whether the task needs a group of its own. A lab occurs once per group; a lab that affects all
/// sockets is alone in its group.
pub fn group_compatible<T>(
    tasks: impl IntoIterator<Item = T>,
    limit: usize,
    describe: impl Fn(&T) -> (&'static Lab, bool),
) -> Vec<Vec<T>> {
    let is_exclusive = |task: &T| describe(task).1 || describe(task).0.affects_all_sockets();
    let mut groups: Vec<Vec<T>> = Vec::new();
    for task in tasks {
        let fits = |group: &&mut Vec<T>| {
            let is_compatible =
                |other: &T| !is_exclusive(other) && describe(other).0.name != describe(&task).0.name;
            group.len() < limit && !is_exclusive(&task) && group.iter().all(is_compatible)
        };
        match groups.last_mut().filter(fits) {
            Some(group) => group.push(task),
            None => groups.push(vec![task]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplanes::find;

    #[test]
    fn conflicting_labs_are_in_different_groups() {
        let tasks = ["host", "same-pod", "host", "gre", "geneve", "vlan", "cilium-service", "qinq", "vxlan6"];
        let describe = |name: &&str| (find(name).unwrap(), *name == "vxlan6");
        let groups = group_compatible(tasks, 3, describe);
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
