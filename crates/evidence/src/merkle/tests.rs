//! The tree against the vectors that certificate transparency's own implementations share, against the
//! RFC's recursive definition, and against every change of a proof.

use proptest::prelude::*;

use super::*;

/// The eight leaves of the reference vectors, and the roots of the first 0, 1, … of them.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|number| leaf(&number.to_be_bytes())).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    leaves.iter().copied().collect::<Tree>().root()
}

/// MTH of RFC 6962 §2.1, as it is written there.
fn defined(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of([]),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            node(&defined(left), &defined(right))
        }
    }
}

fn proof(leaves: &[Hash], index: u64) -> InclusionProof {
    let mut prover = InclusionProver::new(index, leaves.len() as u64).unwrap();
    for leaf in leaves {
        prover.push(*leaf);
    }
    prover.finish().unwrap()
}

#[test]
fn the_reference_vectors_hold() {
    let mut tree = Tree::new();
    for (count, expected) in ROOTS.into_iter().enumerate() {
        assert_eq!((tree.size(), tree.root().to_string()), (count as u64, expected.to_owned()));
        if let Some(data) = LEAVES.get(count) {
            tree.push(leaf(&hex::decode(data).unwrap()));
        }
    }
}

#[test]
fn the_reference_proofs_hold() {
    let leaves: Vec<Hash> = LEAVES.iter().map(|data| leaf(&hex::decode(data).unwrap())).collect();
    let path: Vec<String> = proof(&leaves, 0).path.iter().map(Hash::to_string).collect();
    let expected = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ];
    assert_eq!(path, expected);
    let grown = consistency_proof(&leaves, 1).unwrap();
    assert_eq!(grown.path.iter().map(Hash::to_string).collect::<Vec<_>>(), expected);
    assert!(grown.proves(leaves[0], root(&leaves)));
}

#[test]
fn a_salted_leaf_is_the_leaf_of_salt_and_line() {
    let salt = [7; SALT_BYTES];
    assert_eq!(salted_leaf(&salt, b"{}"), leaf(&[&salt[..], b"{}"].concat()));
    assert_ne!(salted_leaf(&salt, b"{}"), salted_leaf(&[8; SALT_BYTES], b"{}"));
}

#[test]
fn a_tree_with_its_last_leaf_twice_is_another_tree() {
    let three = leaves(3);
    let doubled = [three.clone(), vec![three[2]]].concat();
    assert_ne!(root(&three), root(&doubled));
}

#[test]
fn no_proof_is_made_for_what_is_not_there() {
    assert!(InclusionProver::new(0, 0).is_none());
    assert!(InclusionProver::new(3, 3).is_none());
    let mut short = InclusionProver::new(0, 3).unwrap();
    short.push(leaf(b"one"));
    short.push(leaf(b"two"));
    assert!(short.finish().is_none());
    assert!(consistency_proof(&leaves(3), 0).is_none());
    assert!(consistency_proof(&leaves(3), 4).is_none());
}

proptest! {
    #[test]
    fn the_root_is_the_one_that_the_rfc_defines(count in 0_u64..300) {
        let leaves = leaves(count);
        prop_assert_eq!(root(&leaves), defined(&leaves));
    }

    #[test]
    fn each_leaf_is_proved_and_nothing_else(count in 1_u64..200, at: prop::sample::Index, other: u64) {
        let leaves = leaves(count);
        let (at, root) = (at.index(leaves.len()), root(&leaves));
        let proof = proof(&leaves, at as u64);
        prop_assert!(proof.proves(leaves[at], root));
        prop_assert!(!proof.proves(leaf(b"other"), root));
        let elsewhere = InclusionProof { index: other, ..proof.clone() };
        prop_assert_eq!(elsewhere.proves(leaves[at], root), other == at as u64);
        let longer = InclusionProof { path: [proof.path.clone(), vec![root]].concat(), ..proof.clone() };
        prop_assert!(!longer.proves(leaves[at], root));
        for place in 0..proof.path.len() {
            let mut changed = proof.clone();
            changed.path[place].0[0] ^= 1;
            prop_assert!(!changed.proves(leaves[at], root));
            let mut shorter = proof.clone();
            shorter.path.remove(place);
            prop_assert!(!shorter.proves(leaves[at], root));
        }
    }

    #[test]
    fn a_tree_is_consistent_with_its_beginnings_alone(to in 1_u64..120, from: prop::sample::Index) {
        let leaves = leaves(to);
        let from = from.index(leaves.len()) + 1;
        let (old, new) = (root(&leaves[..from]), root(&leaves));
        let proof = consistency_proof(&leaves, from as u64).unwrap();
        prop_assert!(proof.proves(old, new));
        prop_assert_eq!(proof.proves(new, old), old == new);
        let mut rewritten = leaves.clone();
        rewritten[from - 1] = leaf(b"rewritten");
        prop_assert!(!proof.proves(root(&rewritten[..from]), new));
        prop_assert!(!proof.proves(old, root(&rewritten)));
        for place in 0..proof.path.len() {
            let mut changed = proof.clone();
            changed.path[place].0[31] ^= 1;
            prop_assert!(!changed.proves(old, new));
        }
    }
}

#[test]
fn a_tree_goes_on_from_its_subtrees() {
    let leaves: Vec<Hash> = (0..70_u8).map(|number| leaf(&[number])).collect();
    let whole: Tree = leaves.iter().copied().collect();
    for at in 0..=leaves.len() {
        let first: Tree = leaves[..at].iter().copied().collect();
        let mut tree = Tree::resume(first.size(), first.subtrees().to_vec()).unwrap();
        leaves[at..].iter().for_each(|leaf| tree.push(*leaf));
        assert_eq!((tree.size(), tree.root()), (whole.size(), whole.root()), "{at}");
    }
    assert!(Tree::resume(3, whole.subtrees().to_vec()[..1].to_vec()).is_none());
}
