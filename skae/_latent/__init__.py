"""What a fitted network's code offers: transform, order, covariance, samples."""
