"""Classifier and regressor on an autoencoder's codes."""
