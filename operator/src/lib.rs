//! The operator: reconciles the mesh configuration and the objects of users into everything that runs, and says how it went.
