"""Contract: fusedopt.sklearn's estimators are scikit-learn's, with steps by kernels."""

import copy
import io
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from published import pass_their_own, peer

base = peer("sklearn.base")
datasets = peer("sklearn.datasets")
theirs = peer("sklearn.neural_network")
model_selection = peer("sklearn.model_selection")
checks = peer("sklearn.utils.estimator_checks")
joblib = peer("joblib")
sparse = peer("scipy.sparse")
ours = peer("fusedopt.sklearn")
their_optimizers = peer("sklearn.neural_network._stochastic_optimizers")

pytestmark = pytest.mark.filterwarnings(
    "ignore:Stochastic Optimizer. Maximum iterations",
    "ignore:lbfgs failed to converge",
)

SETTINGS: list[dict[str, Any]] = [
    {"solver": "adam"},
    {"solver": "adam", "beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3, "learning_rate_init": 0.01},
    {"solver": "adam", "early_stopping": True, "hidden_layer_sizes": (31, 7)},
    {"solver": "adam", "batch_size": 37, "activation": "tanh", "shuffle": False},
    {"solver": "sgd"},
    {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3, "learning_rate_init": 0.3},
    {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "tol": 1e-2},
    {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.7, "learning_rate_init": 0.05},
    {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.05},
    {"solver": "lbfgs"},
]


def numbers() -> tuple[np.ndarray, np.ndarray]:
    images, labels = datasets.load_digits(return_X_y=True)
    return images[:600] / 16, labels[:600]


def fitted(kind: Any, dtype: Any = np.float64, made: Any = np.asarray, **settings: Any) -> Any:
    x, y = numbers()
    if "Regressor" in kind.__name__:
        y = np.sin(x @ np.linspace(-2, 2, x.shape[1]))
    model = kind(**{"max_iter": 30, "random_state": 3, **settings})
    return model.fit(made(x.astype(dtype)), y)


def assert_same(mine: Any, other: Any, tolerance: float = 1e-9) -> None:
    assert mine.n_iter_ == other.n_iter_
    assert mine.t_ == other.t_
    pairs = zip(mine.coefs_ + mine.intercepts_, other.coefs_ + other.intercepts_, strict=True)
    for one, two in pairs:
        assert one.dtype == two.dtype
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)
    if hasattr(other, "loss_curve_"):
        np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=tolerance)
    if getattr(other, "validation_scores_", None) is not None:
        assert mine.validation_scores_ == pytest.approx(other.validation_scores_, rel=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_a_fit_is_scikit_learns(settings: dict[str, Any], name: str, dtype: Any) -> None:
    mine = fitted(getattr(ours, name), dtype, **settings)
    other = fitted(getattr(theirs, name), dtype, **settings)
    if settings["solver"] == "lbfgs":  # nothing of which is ours
        assert_same(mine, other, 0)
    elif dtype is np.float64:
        assert_same(mine, other)
    else:  # 30 epochs of a network that amplifies what rounding does
        assert mine.n_iter_ == other.n_iter_
        np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=2e-3)
    x = numbers()[0].astype(dtype)
    np.testing.assert_allclose(mine.predict(x), other.predict(x), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("made", [np.asfortranarray, sparse.csr_matrix, sparse.csr_array])
def test_other_inputs(made: Any, solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = fitted(theirs.MLPClassifier, made=made, solver=solver)
    only_kernels(monkeypatch)
    assert_same(fitted(ours.MLPClassifier, made=made, solver=solver), other)


def only_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(self: Any, grads: Any) -> Any:
        raise AssertionError("a step of scikit-learn's own")

    for kind in (their_optimizers.AdamOptimizer, their_optimizers.SGDOptimizer):
        monkeypatch.setattr(kind, "_get_updates", unexpected)


@pytest.mark.parametrize("settings", SETTINGS[:-1], ids=lambda s: "-".join(map(str, s.values())))
def test_kernels_take_all_steps(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    only_kernels(monkeypatch)
    for name in ("MLPClassifier", "MLPRegressor"):
        fitted(getattr(ours, name), **{**settings, "max_iter": 2})
    x, y = numbers()
    model = ours.MLPClassifier(**{**settings, "early_stopping": False})
    for _ in range(3):
        model.partial_fit(x, y, classes=range(10))


def test_the_optimizer_shows_what_scikit_learns_does() -> None:
    for solver in ("adam", "sgd"):
        mine, other = (
            fitted(each.MLPClassifier, solver=solver)._optimizer for each in (ours, theirs)
        )
        assert isinstance(mine, type(other))
        seen, expected = vars(mine), vars(other)
        assert seen.keys() - {"_kernels"} == expected.keys()
        for name, value in expected.items():
            if isinstance(value, list):
                for one, two in zip(seen[name], value, strict=True):
                    np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)
            elif isinstance(value, float):
                assert seen[name] == pytest.approx(value, rel=1e-12)
            else:
                assert seen[name] == value


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "joblib": lambda model: through_joblib(model),
}


def through_joblib(model: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_copy_goes_on_apart(solver: str, copied: Any) -> None:
    x, y = numbers()
    model = ours.MLPClassifier(solver=solver, random_state=0, learning_rate_init=0.01)
    other = theirs.MLPClassifier(solver=solver, random_state=0, learning_rate_init=0.01)
    for each in (model, other):
        for _ in range(3):
            each.partial_fit(x, y, classes=range(10))
    second = copied(model)
    before = copy.deepcopy(model.coefs_)
    for _ in range(3):
        second.partial_fit(x, y)
        other.partial_fit(x, y)
    assert_same(second, other)
    for one, two in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_warm_start_begins_the_optimizer_anew(solver: str) -> None:
    mine, other = (
        each.MLPClassifier(solver=solver, warm_start=True, random_state=0, max_iter=4)
        for each in (ours, theirs)
    )
    for model in (mine, other):
        for _ in range(3):
            model.fit(*numbers())
    assert_same(mine, other)


def test_partial_fit_in_another_precision_is_scikit_learns_own() -> None:
    x, y = numbers()
    for solver in ("adam", "sgd"):
        mine, other = (
            each.MLPClassifier(solver=solver, random_state=0, learning_rate_init=0.01)
            for each in (ours, theirs)
        )
        for model in (mine, other):
            for dtype in (np.float32, np.float64, np.float32, np.float64):
                model.partial_fit(x.astype(dtype), y, classes=range(10))
        assert_same(mine, other, 1e-3)


def test_parameters_that_were_replaced() -> None:
    x, y = numbers()
    mine, other = (each.MLPClassifier(random_state=0) for each in (ours, theirs))
    for model in (mine, other):
        model.partial_fit(x, y, classes=range(10))
        model.coefs_ = [c * 0.5 for c in model.coefs_]
        model.partial_fit(x, y)
        model.intercepts_[0] = np.ones_like(model.intercepts_[0])
        model.partial_fit(x, y)
    assert_same(mine, other)


def test_layers_that_were_cut_off() -> None:
    """Their optimizer's state is of a network that isn't there any more: an error of NumPy's."""
    x, y = numbers()
    for module in (ours, theirs):
        model = module.MLPClassifier((64, 10), random_state=0).partial_fit(x, y, classes=range(10))
        model.coefs_, model.intercepts_ = model.coefs_[1:], model.intercepts_[1:]
        model.n_layers_, model.hidden_layer_sizes = 3, (10,)
        with pytest.raises(ValueError, match="shape"):
            model.partial_fit(x, y)
    mine, other = (
        each.MLPClassifier(random_state=0).partial_fit(x, y, classes=range(10))
        for each in (ours, theirs)
    )
    for model in (mine, other):
        grads = [np.ones_like(c) for c in model.coefs_]
        model._optimizer.update_params(model.coefs_, grads)
    assert_same(mine, other)


def test_an_optimizer_that_is_kept_put_back_and_taken_away() -> None:
    x, y = numbers()
    for solver, kind in (("adam", "AdamOptimizer"), ("sgd", "SGDOptimizer")):
        found = []
        for module in (ours, theirs):
            model = module.MLPClassifier(solver=solver, random_state=0)
            model.partial_fit(x, y, classes=range(10))
            kept = copy.copy(model._optimizer)
            model.partial_fit(x, y)
            model._optimizer = kept
            model.partial_fit(x, y)
            own = getattr(their_optimizers, kind)(model.coefs_ + model.intercepts_)
            model._optimizer = own
            model.partial_fit(x, y)
            del model._optimizer
            assert not hasattr(model, "_optimizer")
            model.partial_fit(x, y)
            found.append(model)
        assert_same(*found)


def test_settings_that_change_between_calls() -> None:
    x, y = numbers()
    for solver, changes in {
        "adam": {"learning_rate_init": 0.03, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2},
        "sgd": {"learning_rate": 0.03, "momentum": 0.5, "nesterov": False},
    }.items():
        mine, other = (each.MLPClassifier(solver=solver, random_state=0) for each in (ours, theirs))
        for model in (mine, other):
            model.partial_fit(x, y, classes=range(10))
            for name, value in changes.items():
                assert hasattr(model._optimizer, name)
                setattr(model._optimizer, name, value)
            model.partial_fit(x, y)
        assert_same(mine, other)


def test_another_solver_on_the_way() -> None:
    x, y = numbers()
    mine, other = (
        each.MLPClassifier(random_state=0, warm_start=True, max_iter=5) for each in (ours, theirs)
    )
    for model in (mine, other):
        for solver in ("adam", "lbfgs", "sgd", "adam"):
            model.set_params(solver=solver).fit(x, y)
    assert_same(mine, other, 1e-6)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_grid_search_in_parallel(backend: str) -> None:
    x, y = numbers()
    found = []
    for kind in (ours.MLPClassifier, theirs.MLPClassifier):
        grid = {"learning_rate_init": [0.001, 0.01], "solver": ["adam", "sgd"]}
        search = model_selection.GridSearchCV(kind(max_iter=5, random_state=0), grid, cv=2)
        with joblib.parallel_backend(backend, n_jobs=2):
            found.append(search.fit(x, y))
    mine, other = found
    assert mine.best_params_ == other.best_params_
    np.testing.assert_allclose(
        mine.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"], rtol=1e-12
    )


def test_an_estimator_is_scikit_learns() -> None:
    for name in ("MLPClassifier", "MLPRegressor"):
        mine, other = getattr(ours, name)(), getattr(theirs, name)()
        assert isinstance(mine, getattr(theirs, name))
        assert mine.get_params() == other.get_params()
        assert repr(mine) == repr(other)
        assert base.clone(mine.set_params(alpha=0.5)).alpha == 0.5
        assert not hasattr(mine, "_optimizer")
    assert ours.__all__ == ["MLPClassifier", "MLPRegressor"]


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.filterwarnings("ignore")  # also about its checks that aren't for networks
def test_scikit_learns_checks(name: str, solver: str) -> None:
    checks.check_estimator(getattr(ours, name)(solver=solver, max_iter=100))


def test_scikit_learns_own_tests_pass_with_it() -> None:
    spec = find_spec("sklearn.neural_network")
    assert spec is not None
    assert spec.origin is not None
    tests = Path(spec.origin).parent / "tests" / "test_mlp.py"
    if not tests.exists():
        pytest.skip("this scikit-learn brings no tests")
    pass_their_own(tests, "sklearn_with_ours")
