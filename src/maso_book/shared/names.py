"""What networks and data sets are called in figures, tables and verdicts."""

NETWORKS = {
    "small_cnn": "smallCNN",
    "large_cnn": "largeCNN",
    "dense_cnn": "DenseCNN",
    "small_resnet": "small ResNet",
}
DATASETS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "digits": "digits",
}
