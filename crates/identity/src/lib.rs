//! How a pod gets its certificate: the client of the identity service, and what both sides say to each other (T-02).
