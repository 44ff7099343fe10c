"""What is deployed: locks, images, manifests, releases."""
