//! Every phase with all that can be seen in it, and whole rotations in a mesh that behaves badly (T-04).

mod mesh;
mod simulation;
mod table;
