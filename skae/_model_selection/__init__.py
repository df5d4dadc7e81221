"""The search for the number of components, and the comparison of PCA and autoencoders."""
