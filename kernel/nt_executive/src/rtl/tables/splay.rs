//! Splay trees: a node that is used moves to the root.

use std::ptr;

use super::links::{Links, first, last, predecessor, successor, turn};

gate::exports! {
    /// Splay links.
    pub static TABLE in "ntoskrnl.exe";
    "RtlSplay" = rtl_splay(node: *mut Links) -> *mut Links, rules "K-200";
    "RtlDelete" = rtl_delete(node: *mut Links) -> *mut Links, rules "K-200";
    "RtlDeleteNoSplay" = rtl_delete_no_splay(node: *mut Links, root: *mut *mut Links), rules "K-200";
    "RtlRealSuccessor" = rtl_real_successor(node: *mut Links) -> *mut Links, rules "K-200";
    "RtlRealPredecessor" = rtl_real_predecessor(node: *mut Links) -> *mut Links, rules "K-200";
    "RtlSubtreeSuccessor" = rtl_subtree_successor(node: *mut Links) -> *mut Links, rules "K-200";
    "RtlSubtreePredecessor" = rtl_subtree_predecessor(node: *mut Links) -> *mut Links, rules "K-200";
}

/// Moves a node into its parent's place.
///
/// # Safety
/// The driver's nodes; bad ones fault and are blamed on it. The same holds for the whole module.
unsafe fn rotate_up(node: *mut Links) {
    // SAFETY: see above.
    unsafe {
        let parent = (*node).parent;
        let above = (*parent).parent;
        turn(node, parent);
        if above == parent {
            (*node).parent = node;
            return;
        }
        (*node).parent = above;
        if (*above).left == parent {
            (*above).left = node;
        } else {
            (*above).right = node;
        }
    }
}

/// Moves a node to the root, which it then is.
pub unsafe fn splay(node: *mut Links) -> *mut Links {
    // SAFETY: see `rotate_up`.
    unsafe {
        loop {
            let parent = (*node).parent;
            if parent == node {
                return node;
            }
            let above = (*parent).parent;
            if above != parent {
                let straight = ((*above).left == parent) == ((*parent).left == node);
                rotate_up(if straight { parent } else { node });
            }
            rotate_up(node);
        }
    }
}

/// Takes a node out; gives the new root, or null.
pub unsafe fn delete(node: *mut Links) -> *mut Links {
    // SAFETY: see `rotate_up`.
    unsafe {
        splay(node);
        let (left, right) = ((*node).left, (*node).right);
        if !right.is_null() {
            (*right).parent = right;
        }
        if left.is_null() {
            return right;
        }
        (*left).parent = left;
        // The last of the left part has no right child once it is that part's root.
        let root = splay(last(left));
        (*root).right = right;
        if !right.is_null() {
            (*right).parent = root;
        }
        root
    }
}

unsafe extern "win64" fn rtl_splay(node: *mut Links) -> *mut Links {
    // SAFETY: see `rotate_up`.
    unsafe { splay(node) }
}

unsafe extern "win64" fn rtl_delete(node: *mut Links) -> *mut Links {
    // SAFETY: see `rotate_up`.
    unsafe { delete(node) }
}

/// Puts `new`, which may be null, in the place of `old`.
unsafe fn replace(old: *mut Links, new: *mut Links, root: *mut *mut Links) {
    // SAFETY: see `rotate_up`.
    unsafe {
        let parent = (*old).parent;
        let is_root = parent == old;
        if is_root {
            *root = new;
        } else if (*parent).left == old {
            (*parent).left = new;
        } else {
            (*parent).right = new;
        }
        if !new.is_null() {
            (*new).parent = if is_root { new } else { parent };
        }
    }
}

unsafe extern "win64" fn rtl_delete_no_splay(node: *mut Links, root: *mut *mut Links) {
    // SAFETY: see `rotate_up`.
    unsafe {
        let (left, right) = ((*node).left, (*node).right);
        if left.is_null() || right.is_null() {
            replace(node, if left.is_null() { right } else { left }, root);
            return;
        }
        let next = first(right);
        if next != right {
            replace(next, (*next).right, root);
            (*next).right = right;
            (*right).parent = next;
        }
        replace(node, next, root);
        (*next).left = left;
        (*left).parent = next;
    }
}

unsafe extern "win64" fn rtl_real_successor(node: *mut Links) -> *mut Links {
    // SAFETY: see `rotate_up`.
    unsafe { successor(node) }
}

unsafe extern "win64" fn rtl_real_predecessor(node: *mut Links) -> *mut Links {
    // SAFETY: see `rotate_up`.
    unsafe { predecessor(node, ptr::null_mut()) }
}

unsafe extern "win64" fn rtl_subtree_successor(node: *mut Links) -> *mut Links {
    // SAFETY: see `rotate_up`.
    unsafe { if (*node).right.is_null() { ptr::null_mut() } else { first((*node).right) } }
}

unsafe extern "win64" fn rtl_subtree_predecessor(node: *mut Links) -> *mut Links {
    // SAFETY: see `rotate_up`.
    unsafe { if (*node).left.is_null() { ptr::null_mut() } else { last((*node).left) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes in order, each the right child of the one before.
    fn chain(count: usize) -> Vec<Links> {
        let empty = Links { parent: ptr::null_mut(), left: ptr::null_mut(), right: ptr::null_mut() };
        let mut nodes = vec![empty; count];
        let places = places(&mut nodes);
        for (place, node) in nodes.iter_mut().enumerate() {
            node.parent = places[place.saturating_sub(1)];
            node.right = places.get(place + 1).copied().unwrap_or(ptr::null_mut());
        }
        nodes
    }

    fn places(nodes: &mut [Links]) -> Vec<*mut Links> {
        let start = nodes.as_mut_ptr();
        (0..nodes.len()).map(|place| start.wrapping_add(place)).collect()
    }

    /// The nodes of a tree, in order.
    unsafe fn walk(root: *mut Links) -> Vec<*mut Links> {
        let mut nodes = Vec::new();
        // SAFETY: nodes of the test.
        unsafe {
            let mut node = if root.is_null() { root } else { first(root) };
            while !node.is_null() {
                nodes.push(node);
                node = successor(node);
            }
        }
        nodes
    }

    #[test]
    fn splaying_keeps_the_order_and_makes_the_root() {
        let mut nodes = chain(9);
        let places = places(&mut nodes);
        // SAFETY: nodes of this test.
        unsafe {
            for &node in places.iter().rev().chain(&places) {
                assert_eq!(splay(node), node);
                assert_eq!((*node).parent, node);
                assert_eq!(walk(node), places);
            }
            assert_eq!(predecessor(places[4], ptr::null_mut()), places[3]);
            assert!(predecessor(places[0], ptr::null_mut()).is_null() && successor(places[8]).is_null());
        }
    }

    #[test]
    fn deleting_keeps_the_order_of_the_rest_with_and_without_splaying() {
        for splaying in [true, false] {
            let mut nodes = chain(8);
            let mut places = places(&mut nodes);
            // SAFETY: nodes of this test.
            unsafe {
                let mut root = splay(places[5]);
                for index in [3, 0, 5, 2, 1, 2, 1, 0] {
                    let node = places.remove(index);
                    if splaying {
                        root = delete(node);
                    } else {
                        rtl_delete_no_splay(node, &mut root);
                    }
                    assert_eq!(walk(root), places);
                }
            }
        }
    }
}
