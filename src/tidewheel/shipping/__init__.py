"""Ship a model version: folder, wheel, image, function, page, manifests."""
