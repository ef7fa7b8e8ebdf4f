"""A plugin of pytest's: scikit-learn's tests of its networks, with ours in their place."""

import pytest
from sklearn import neural_network

import fusedopt.sklearn as ours

neural_network.MLPClassifier = ours.MLPClassifier
neural_network.MLPRegressor = ours.MLPRegressor


@pytest.fixture
def global_random_seed() -> int:
    """Stand in for what scikit-learn's suite has above its folders."""
    return 42
