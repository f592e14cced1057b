//! The identity service: CA, issuing certificate, trust bundle, and certificates for the pods of the mesh (T-02).
