"""What each feature of a row contributes to the model's answer."""
