//! AVL trees: the depths of a node's two subtrees differ by one at most.

use std::ptr;

use super::links::{Links, first, turn};

/// `RTL_BALANCED_LINKS`.
#[doc(alias = "RTL_BALANCED_LINKS")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Balanced {
    pub links: Links,
    /// Depth of the right subtree less that of the left.
    pub balance: i8,
    _reserved: [u8; 7],
}

const _: () = assert!(size_of::<Balanced>() == 0x20);

impl Balanced {
    /// A node without children below `parent`.
    pub fn new(parent: *mut Links) -> Self {
        let links = Links { parent, left: ptr::null_mut(), right: ptr::null_mut() };
        Self { links, balance: 0, _reserved: [0; 7] }
    }
}

/// # Safety
/// The driver's nodes; bad ones fault and are blamed on it. The same holds for the whole module.
unsafe fn balance<'a>(node: *mut Links) -> &'a mut i8 {
    // SAFETY: see above: every node of an AVL tree is balanced, and the reference is used at once.
    unsafe { &mut (*node.cast::<Balanced>()).balance }
}

/// Puts `new`, which may be null, where `old` hangs.
unsafe fn replace(old: *mut Links, new: *mut Links) {
    // SAFETY: see `balance`.
    unsafe {
        let parent = (*old).parent;
        if (*parent).left == old {
            (*parent).left = new;
        } else {
            (*parent).right = new;
        }
        if !new.is_null() {
            (*new).parent = parent;
        }
    }
}

/// Moves a node into its parent's place.
unsafe fn rotate_up(node: *mut Links) {
    // SAFETY: see `balance`.
    unsafe {
        let parent = (*node).parent;
        replace(parent, node);
        turn(node, parent);
    }
}

/// Mends a node whose balance is two to one side: the root of what was its subtree, and whether that is less deep.
unsafe fn rebalance(node: *mut Links) -> (*mut Links, bool) {
    // SAFETY: see `balance`.
    unsafe {
        let heavy = balance(node).signum();
        let child = if heavy > 0 { (*node).right } else { (*node).left };
        if *balance(child) == -heavy {
            let inner = if heavy > 0 { (*child).left } else { (*child).right };
            rotate_up(inner);
            rotate_up(inner);
            let leaning = *balance(inner);
            *balance(node) = if leaning == heavy { -heavy } else { 0 };
            *balance(child) = if leaning == -heavy { heavy } else { 0 };
            *balance(inner) = 0;
            return (inner, true);
        }
        rotate_up(child);
        let shrunk = *balance(child) != 0;
        *balance(node) = if shrunk { 0 } else { heavy };
        *balance(child) = if shrunk { 0 } else { -heavy };
        (child, shrunk)
    }
}

/// Restores the balance above a new leaf; whether the whole tree is deeper. `top` is where the tree hangs.
pub unsafe fn inserted(mut node: *mut Links, top: *mut Links) -> bool {
    // SAFETY: see `balance`.
    unsafe {
        loop {
            let parent = (*node).parent;
            if parent == top {
                return true;
            }
            *balance(parent) += if (*parent).left == node { -1 } else { 1 };
            match *balance(parent) {
                0 => return false,
                -1 | 1 => node = parent,
                _ => {
                    rebalance(parent);
                    return false;
                }
            }
        }
    }
}

/// Takes a node out and restores the balance; whether the whole tree is less deep.
pub unsafe fn delete(node: *mut Links, top: *mut Links) -> bool {
    // SAFETY: see `balance`.
    unsafe {
        let (left, right) = ((*node).left, (*node).right);
        // Below which node, and on which side, a subtree has become less deep.
        let (mut place, mut left_shrunk);
        if left.is_null() || right.is_null() {
            place = (*node).parent;
            left_shrunk = (*place).left == node;
            replace(node, if left.is_null() { right } else { left });
        } else {
            let next = first(right);
            if next == right {
                (place, left_shrunk) = (next, false);
            } else {
                (place, left_shrunk) = ((*next).parent, true);
                replace(next, (*next).right);
                (*next).right = right;
                (*right).parent = next;
            }
            replace(node, next);
            (*next).left = left;
            (*left).parent = next;
            *balance(next) = *balance(node);
        }
        while place != top {
            *balance(place) += if left_shrunk { 1 } else { -1 };
            match *balance(place) {
                -1 | 1 => return false,
                0 => {}
                _ => {
                    let (root, shrunk) = rebalance(place);
                    if !shrunk {
                        return false;
                    }
                    place = root;
                }
            }
            let parent = (*place).parent;
            left_shrunk = (*parent).left == place;
            place = parent;
        }
        true
    }
}
