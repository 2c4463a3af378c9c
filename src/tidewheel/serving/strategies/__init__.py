"""Strategies: how requests are led to more versions than a champion and a challenger."""
